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

use super::{AuthenticationError, Credential, Identity, Principal, Proof};
use crate::{
    domain::{Timestamp, Token, TokenDigest, TokenId},
    entity::token::Model,
    error::{Error, Result},
    store::{self, Db},
};

/// How often the tokens are read. Every instance rejects a revoked token after at most this and the duration of the
/// read, unless the read fails: see [`MAX_STALENESS`].
const REFRESH_INTERVAL: Duration = Duration::from_millis(500);
/// Minimum time before the tokens are read again because a caller has sent an unknown one, so that callers can't cause
/// more than ten reads per second.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_millis(100);
/// How long a call with an unknown token waits for the next read.
const REFRESH_WAIT_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of reading the tokens from the database.
const READ_TIMEOUT: Duration = Duration::from_secs(2);
/// Maximum number of calls that wait for the next read; others are rejected at once.
const MAX_REFRESH_WAITERS: usize = 64;
/// How long the last snapshot is used while the tokens can't be read.
const MAX_STALENESS: Duration = Duration::from_secs(5);

/// Authenticates tokens by a snapshot of the valid ones, which is read every `REFRESH_INTERVAL`.
#[derive(Clone, Debug)]
pub struct TokenAuthenticator {
    db: Db,
    snapshot: Arc<watch::Sender<TokenSnapshot>>,
    refresh_requests: Arc<RefreshRequests>,
}

/// Calls that wait for the next read of the tokens, as one of them may have a new token.
#[derive(Debug)]
struct RefreshRequests {
    wanted: Notify,
    room: Semaphore,
}

#[derive(Debug)]
pub(super) struct TokenSnapshot {
    db: Db,
    read: Instant,
    tokens: HashMap<TokenId, Entry>,
}

#[derive(Debug)]
struct Entry {
    digest: TokenDigest,
    principal: Arc<Principal>,
    expires_at: Option<Timestamp>,
}

impl TokenAuthenticator {
    /// Reads the first snapshot of valid tokens.
    ///
    /// # Errors
    /// The tokens can't be read.
    pub async fn read(db: Db) -> Result<Self> {
        let snapshot = Arc::new(watch::Sender::new(read_snapshot(&db).await?));
        let refresh_requests = Arc::new(RefreshRequests {
            wanted: Notify::new(),
            room: Semaphore::new(MAX_REFRESH_WAITERS),
        });
        Ok(Self {
            db,
            snapshot,
            refresh_requests,
        })
    }

    /// Reads the tokens periodically, and earlier if calls wait for it.
    pub async fn refresh_loop(&self) {
        loop {
            let wanted = async {
                sleep(MIN_REFRESH_INTERVAL).await;
                self.refresh_requests.wanted.notified().await;
            };
            // Waits for whichever comes first.
            let _ = timeout(REFRESH_INTERVAL, wanted).await;
            let read = read_snapshot(&self.db).with_subscriber(NoSubscriber::default());
            let late = |_| Err(Error::Unavailable("it doesn't answer in time".into()));
            match timeout(READ_TIMEOUT, read).await.unwrap_or_else(late) {
                Ok(snapshot) => drop(self.snapshot.send_replace(snapshot)),
                // Wakes the tasks in `wait_until_invalid`, which check whether the snapshot has become too old.
                Err(error) => {
                    tracing::debug!(error = %error, "cannot read tokens from the database");
                    self.snapshot.send_modify(|_| {});
                }
            }
        }
    }

    /// Authenticates the caller with this token.
    ///
    /// # Errors
    /// The token is invalid, or the snapshot is too old.
    pub fn identify(&self, token: &Token) -> Result<Identity, AuthenticationError> {
        let snapshot = self.snapshot.borrow();
        // The id isn't secret: only the digest is compared in constant time.
        let entry = snapshot.find(token.id())?;
        if !entry.digest.matches_token(token) {
            return Err(AuthenticationError::Invalid);
        }
        Ok(Identity {
            principal: entry.principal.clone(),
            proof: Proof::Token(token.id(), self.snapshot.clone()),
        })
    }
}

impl TokenAuthenticator {
    /// A future that waits for the next read of the tokens, if this token's id is unknown and may be new; `None` if it
    /// is known.
    pub(super) fn wait_for_token_refresh(
        &self,
        token: &Token,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        if self.snapshot.borrow().tokens.contains_key(&token.id()) {
            return None;
        }
        let (refresh_requests, mut snapshot) =
            (self.refresh_requests.clone(), self.snapshot.subscribe());
        let asked = Instant::now();
        Some(async move {
            let Ok(_room) = refresh_requests.room.try_acquire() else {
                return;
            };
            refresh_requests.wanted.notify_one();
            let read = snapshot.wait_for(|snapshot| snapshot.read >= asked);
            let _ = timeout(REFRESH_WAIT_TIMEOUT, read).await;
        })
    }
}

impl TokenSnapshot {
    fn find(&self, id: TokenId) -> Result<&Entry, AuthenticationError> {
        if self.read.elapsed() > MAX_STALENESS {
            return Err(AuthenticationError::Unavailable);
        }
        let entry = self.tokens.get(&id).ok_or(AuthenticationError::Invalid)?;
        let expires = entry.expires_at;
        if expires.is_some_and(|expires| expires <= self.db.now()) {
            return Err(AuthenticationError::Invalid);
        }
        Ok(entry)
    }
}

/// Checks that a token is still valid.
pub(super) fn revalidate(
    id: TokenId,
    snapshot: &watch::Sender<TokenSnapshot>,
) -> Result<(), AuthenticationError> {
    snapshot.borrow().find(id).map(drop)
}

/// Waits until a token is no longer valid, or the snapshot is too old.
pub(super) async fn wait_until_invalid(
    id: TokenId,
    snapshot: &watch::Sender<TokenSnapshot>,
) -> AuthenticationError {
    let mut changes = snapshot.subscribe();
    loop {
        let found = changes.borrow_and_update().find(id).map(drop);
        if let Err(error) = found {
            return error;
        }
        // The channel can't close: its sender is borrowed here.
        let _ = changes.changed().await;
    }
}

async fn read_snapshot(db: &Db) -> Result<TokenSnapshot> {
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
                principal: Arc::new(Principal::new(caller, permissions, Credential::Token)),
                expires_at,
            },
        )
    };
    Ok(TokenSnapshot {
        db: db.clone(),
        read,
        tokens: valid.map(entry).collect(),
    })
}
