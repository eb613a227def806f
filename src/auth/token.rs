use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{sleep, timeout},
};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{Credential, Identity, Proof, Refusal, Who};
use crate::{
    domain::{Timestamp, Token, TokenDigest, TokenId},
    entity::token::Model,
    error::{Error, Result},
    store::{self, Db},
};

/// How often they are read: a token that is revoked is refused this much later at the most, on every instance.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long it takes at least until they are read again because a caller sends one that isn't known: whatever callers
/// send, they are read ten times a second at most.
const LOOK_UP_PAUSE: Duration = Duration::from_millis(100);
/// How long a call with an unknown token waits for that.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long the database may take to give the tokens.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// So many calls may wait for it; others are refused at once.
const MAX_LOOK_UPS: usize = 64;
/// For how long they are trusted while they can't be read.
const MAX_AGE: Duration = Duration::from_secs(5);

/// The tokens that are valid, of which there is a copy no older than a second.
#[derive(Clone, Debug)]
pub struct Tokens {
    db: Db,
    known: Arc<watch::Sender<Known>>,
    look_ups: Arc<LookUps>,
}

/// Calls that wait for the tokens to be read again, as one of them may be new.
#[derive(Debug)]
struct LookUps {
    wanted: Notify,
    room: Semaphore,
}

#[derive(Debug)]
pub(super) struct Known {
    db: Db,
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
        let look_ups = Arc::new(LookUps {
            wanted: Notify::new(),
            room: Semaphore::new(MAX_LOOK_UPS),
        });
        Ok(Self {
            db,
            known,
            look_ups,
        })
    }

    /// Goes on reading them.
    pub async fn follow(&self) {
        loop {
            let wanted = async {
                sleep(LOOK_UP_PAUSE).await;
                self.look_ups.wanted.notified().await;
            };
            // Whichever comes first.
            let _ = timeout(INTERVAL, wanted).await;
            let read = known(&self.db).with_subscriber(NoSubscriber::default());
            let late = |_| Err(Error::Unavailable("it doesn't answer in time".into()));
            match timeout(READ_TIMEOUT, read).await.unwrap_or_else(late) {
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

impl Tokens {
    /// Waits for the next read of the tokens if this token's id is unknown, as it may be new. None if it is known.
    pub(super) fn look_up(&self, token: &Token) -> Option<impl Future<Output = ()> + Send + use<>> {
        if self.known.borrow().tokens.contains_key(&token.id()) {
            return None;
        }
        let (look_ups, mut known) = (self.look_ups.clone(), self.known.subscribe());
        let asked = Instant::now();
        Some(async move {
            let Ok(_room) = look_ups.room.try_acquire() else {
                return;
            };
            look_ups.wanted.notify_one();
            let read = known.wait_for(|known| known.read >= asked);
            let _ = timeout(LOOK_UP_TIMEOUT, read).await;
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
        if expires.is_some_and(|expires| expires <= self.db.now()) {
            return Err(Refusal::Invalid);
        }
        Ok(entry)
    }
}

/// Whether a token is still known.
pub(super) fn check(id: TokenId, known: &watch::Sender<Known>) -> Result<(), Refusal> {
    known.borrow().find(id).map(drop)
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
                who: Arc::new(Who::new(caller, permissions, Credential::Token)),
                expires_at,
            },
        )
    };
    Ok(Known {
        db: db.clone(),
        read,
        tokens: valid.map(entry).collect(),
    })
}
