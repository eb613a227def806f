//! Who calls: by a token, of which there is a copy no older than a second, or by a certificate.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use crate::{
    domain::{Caller, Permission, Permissions, Timestamp, Token, TokenDigest, TokenId},
    entity::token::Model,
    error::Result,
    store::{self, Db},
};

/// How often they are read: a token that is revoked is refused this much later at the most, on every instance.
const INTERVAL: Duration = Duration::from_millis(500);
/// For how long they are trusted while they can't be read.
const MAX_AGE: Duration = Duration::from_secs(5);

/// The tokens that are valid.
#[derive(Clone, Debug)]
pub struct Tokens {
    db: Db,
    known: Arc<watch::Sender<Known>>,
}

#[derive(Debug)]
struct Known {
    read: Instant,
    tokens: HashMap<TokenId, Entry>,
}

#[derive(Debug)]
struct Entry {
    digest: TokenDigest,
    who: Arc<Who>,
    expires_at: Option<Timestamp>,
}

/// A caller, and what it may do.
#[derive(Debug)]
struct Who {
    caller: Caller,
    permissions: Permissions,
}

/// Why a caller isn't known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no valid token. Why is nobody's business.
    Invalid,
    /// Which tokens are valid can't be read.
    Unavailable,
}

/// A caller who is known.
#[derive(Clone, Debug)]
pub struct Identity {
    who: Arc<Who>,
    /// The token that says so; else a certificate has said so, for as long as its connection is there.
    token: Option<(TokenId, Arc<watch::Sender<Known>>)>,
}

/// What callers may do who are known by certificates.
#[derive(Clone, Debug, Default)]
pub struct Grants(Arc<[Grant]>);

/// What a caller may do, or several: a `*` at its end stands for anything.
#[derive(Clone, Debug)]
pub struct Grant {
    callers: String,
    permissions: Permissions,
}

impl Grant {
    /// Reads a grant: `CALLER=PERMISSIONS`.
    ///
    /// # Errors
    /// What is wrong with it, for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (callers, permissions) = text
            .rsplit_once('=')
            .ok_or("it must be CALLER=PERMISSIONS, such as spiffe://shop/till=check,read")?;
        Ok(Self {
            callers: callers.to_owned(),
            permissions: Permissions::parse(permissions)?,
        })
    }

    fn is_for(&self, caller: &str) -> bool {
        match self.callers.strip_suffix('*') {
            Some(beginning) => caller.starts_with(beginning),
            None => caller == self.callers,
        }
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        Self(grants.into_iter().collect())
    }
}

impl Grants {
    /// Whom a certificate of this name is of.
    pub(crate) fn identify(&self, name: &str) -> Option<Identity> {
        let caller = Caller::parse(name).ok()?;
        let granted = self.0.iter().filter(|grant| grant.is_for(caller.as_str()));
        let permissions =
            granted.fold(Permissions::NONE, |some, grant| some.and(grant.permissions));
        Some(Identity {
            who: Arc::new(Who {
                caller,
                permissions,
            }),
            token: None,
        })
    }
}

impl Tokens {
    /// Reads those that are valid.
    ///
    /// # Errors
    /// They can't be read.
    pub async fn read(db: Db) -> Result<Self> {
        let known = Arc::new(watch::Sender::new(known(&db).await?));
        Ok(Self { db, known })
    }

    /// Goes on reading them.
    pub async fn follow(&self) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let known = known(&self.db).with_subscriber(NoSubscriber::default());
            match known.await {
                Ok(known) => drop(self.known.send_replace(known)),
                // Whoever watches must be told when they are trusted no longer.
                Err(error) => {
                    tracing::debug!(error = %error, "tokens can't be read");
                    self.known.send_modify(|_| {});
                }
            }
        }
    }

    /// Finds out who sends this token.
    ///
    /// # Errors
    /// It isn't valid, or that can't be found out.
    pub fn identify(&self, text: &str) -> Result<Identity, Refusal> {
        let token = Token::parse(text).ok_or(Refusal::Invalid)?;
        let known = self.known.borrow();
        // The id is no secret: only what is behind it is compared in constant time.
        let entry = known.find(token.id())?;
        if !entry.digest.is_of(&token) {
            return Err(Refusal::Invalid);
        }
        Ok(Identity {
            who: entry.who.clone(),
            token: Some((token.id(), self.known.clone())),
        })
    }
}

impl Known {
    fn find(&self, id: TokenId) -> Result<&Entry, Refusal> {
        if self.read.elapsed() > MAX_AGE {
            return Err(Refusal::Unavailable);
        }
        let now = Timestamp::now();
        let entry = self.tokens.get(&id).ok_or(Refusal::Invalid)?;
        if entry.expires_at.is_some_and(|expires| expires <= now) {
            return Err(Refusal::Invalid);
        }
        Ok(entry)
    }
}

impl Identity {
    /// The name that changes are recorded under.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.who.caller
    }

    /// Whether the caller has a permission.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.who.permissions.allow(permission)
    }

    /// Waits until the caller is no longer known.
    pub async fn ended(&self) -> Refusal {
        let Some((id, known)) = &self.token else {
            return std::future::pending().await;
        };
        let mut changes = known.subscribe();
        loop {
            let found = changes.borrow_and_update().find(*id).map(drop);
            if let Err(refusal) = found {
                return refusal;
            }
            // The sender lives in `self`, so the channel can't be closed.
            let _ = changes.changed().await;
        }
    }
}

async fn known(db: &Db) -> Result<Known> {
    let read = Instant::now();
    let valid = store::token::valid(db).await?.into_iter();
    let entry = |token: Model| {
        let Model {
            id,
            caller,
            digest,
            permissions,
            expires_at,
            ..
        } = token;
        (
            id,
            Entry {
                digest,
                who: Arc::new(Who {
                    caller,
                    permissions,
                }),
                expires_at,
            },
        )
    };
    Ok(Known {
        read,
        tokens: valid.map(entry).collect(),
    })
}
