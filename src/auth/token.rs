use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{Identity, Proof, Refusal, Who};
use crate::{
    domain::{Timestamp, Token, TokenDigest, TokenId},
    entity::token::Model,
    error::Result,
    store::{self, Db},
};

/// How often they are read: a token that is revoked is refused this much later at the most, on every instance.
const INTERVAL: Duration = Duration::from_millis(500);
/// For how long they are trusted while they can't be read.
const MAX_AGE: Duration = Duration::from_secs(5);

/// The tokens that are valid, of which there is a copy no older than a second.
#[derive(Clone, Debug)]
pub struct Tokens {
    db: Db,
    known: Arc<watch::Sender<Known>>,
}

#[derive(Debug)]
pub(super) struct Known {
    read: Instant,
    tokens: HashMap<TokenId, Entry>,
}

#[derive(Debug)]
struct Entry {
    digest: TokenDigest,
    who: Arc<Who>,
    expires_at: Option<Timestamp>,
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
    pub fn identify(&self, token: &Token) -> Result<Identity, Refusal> {
        let known = self.known.borrow();
        // The id is no secret: only what is behind it is compared in constant time.
        let entry = known.find(token.id())?;
        if !entry.digest.is_of(token) {
            return Err(Refusal::Invalid);
        }
        Ok(Identity {
            who: entry.who.clone(),
            proof: Proof::Token(token.id(), self.known.clone()),
        })
    }
}

impl Known {
    fn find(&self, id: TokenId) -> Result<&Entry, Refusal> {
        if self.read.elapsed() > MAX_AGE {
            return Err(Refusal::Unavailable);
        }
        let entry = self.tokens.get(&id).ok_or(Refusal::Invalid)?;
        let expires = entry.expires_at;
        if expires.is_some_and(|expires| expires <= Timestamp::now()) {
            return Err(Refusal::Invalid);
        }
        Ok(entry)
    }
}

/// Waits until a token is no longer known.
pub(super) async fn ended(id: TokenId, known: &watch::Sender<Known>) -> Refusal {
    let mut changes = known.subscribe();
    loop {
        let found = changes.borrow_and_update().find(id).map(drop);
        if let Err(refusal) = found {
            return refusal;
        }
        // The sender is here, so the channel can't be closed.
        let _ = changes.changed().await;
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
