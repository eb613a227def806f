//! JSON Web Tokens (RFC 7519): signed by an issuer whose keys are trusted, and change while it serves.

mod claims;
mod keys;
mod source;
mod wrong;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, watch},
    time::sleep,
};

pub(super) use self::keys::{Keys, Verified};
pub use self::source::Source;
use self::{claims::Expected, wrong::Wrong};
use super::{Credential, Grants, Identity, Proof, Refusal, passed};
use crate::domain::{Caller, Timestamp};

/// How often it is looked whether a file has changed.
const FILE_INTERVAL: Duration = Duration::from_secs(1);
/// How often a URL is read.
const URL_INTERVAL: Duration = Duration::from_secs(300);
/// How long it isn't read again whatever happens, so that nobody has it read by sending nonsense.
const URL_PAUSE: Duration = Duration::from_secs(5);
/// Longer ones aren't even looked at.
const MAX_LENGTH: usize = 8 * 1024;

/// The tokens of an issuer that is trusted.
#[derive(Clone, Debug)]
pub struct Jwts {
    source: Arc<Source>,
    expected: Arc<Expected>,
    grants: Grants,
    keys: Arc<watch::Sender<Arc<Keys>>>,
    /// Somebody has named a key that isn't there.
    unknown: Arc<Notify>,
    /// Why the keys couldn't be read when it was last tried: said once for each reason.
    complaint: Arc<Mutex<Option<String>>>,
}

impl Jwts {
    /// Reads the keys, if they are in a file: a URL is read by [`Self::begin`].
    ///
    /// # Errors
    /// What is wrong with them, for the operator.
    pub fn load(
        source: Source,
        issuer: String,
        audience: String,
        kind: Option<String>,
        grants: Grants,
    ) -> Result<Self, String> {
        let keys = match &source {
            Source::File(path) => source::read(path).and_then(Keys::parse),
            Source::Url(url) => source::check(url).map(|()| Keys::default()),
        };
        let keys = keys.map_err(|reason| format!("--jwt-keys {source}: {reason}"))?;
        Ok(Self {
            source: Arc::new(source),
            expected: Arc::new(Expected {
                issuer,
                audience,
                kind,
            }),
            grants,
            keys: Arc::new(watch::Sender::new(Arc::new(keys))),
            unknown: Arc::default(),
            complaint: Arc::default(),
        })
    }

    /// Reads a URL for the first time, so that the first callers are known. One that is away is no reason not to
    /// serve: who has a token of our own, or a certificate, needs none of it.
    pub async fn begin(&self) {
        if let Source::Url(_) = *self.source {
            self.look().await;
        }
    }

    /// Goes on reading the keys, and at once at SIGHUP.
    pub(super) async fn follow(&self) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            return;
        };
        loop {
            self.due(&mut hangup).await;
            self.look().await;
        }
    }

    /// Waits until the keys should be read again.
    async fn due(&self, hangup: &mut Signal) {
        let failed = self.complaint().is_some();
        let (interval, pause) = match *self.source {
            Source::File(_) => (FILE_INTERVAL, FILE_INTERVAL),
            Source::Url(_) if failed => (URL_PAUSE, URL_PAUSE),
            Source::Url(_) => (URL_INTERVAL, URL_PAUSE),
        };
        let asked_for = async {
            sleep(pause).await;
            self.unknown.notified().await;
        };
        tokio::select! {
            _ = hangup.recv() => {}
            () = sleep(interval) => {}
            () = asked_for => {}
        }
    }

    async fn look(&self) {
        let complaint = match self.reload().await {
            Ok(true) => {
                tracing::info!("the keys of JWTs have changed");
                None
            }
            Ok(false) => None,
            Err(reason) => Some(reason),
        };
        let mut before = self.complaint();
        if let Some(reason) = &complaint
            && before.as_ref() != Some(reason)
        {
            let source = &self.source;
            tracing::warn!("the keys of JWTs can't be read from {source}: {reason}");
        }
        *before = complaint;
    }

    /// Reads the keys; true if they are others now.
    async fn reload(&self) -> Result<bool, String> {
        let contents = match &*self.source {
            Source::File(path) => source::read(path)?,
            Source::Url(url) => source::fetch(url).await?,
        };
        if self.keys.borrow().are_of(&contents) {
            return Ok(false);
        }
        // What was verified by the old ones goes with them.
        self.keys.send_replace(Arc::new(Keys::parse(contents)?));
        Ok(true)
    }

    /// Finds out who sends this token.
    ///
    /// # Errors
    /// It isn't valid.
    pub fn identify(&self, token: &str) -> Result<Identity, Refusal> {
        let verified = self.verify(token).map_err(|wrong| {
            if wrong == Wrong::UnknownKey {
                self.unknown.notify_one();
            }
            tracing::debug!(reason = %wrong, "a JWT is refused");
            Refusal::Invalid
        })?;
        Ok(self.identity(verified))
    }

    /// Finds out who sends this token, if it was verified before: without verifying a signature.
    ///
    /// # Errors
    /// It wasn't verified before, or isn't valid any more.
    pub(super) fn recall(&self, token: &str) -> Result<Identity, Refusal> {
        let verified = self.keys.borrow().remembered(&Sha256::digest(token).into());
        let verified = verified.and_then(|verified| verified.in_time().ok());
        verified
            .map(|verified| self.identity(verified))
            .ok_or(Refusal::Invalid)
    }

    fn identity(&self, verified: Arc<Verified>) -> Identity {
        Identity {
            who: verified.who.clone(),
            proof: Proof::Jwt(verified, self.keys.clone()),
        }
    }

    /// Verifies a token, or remembers that this was done: a signature costs some ten times what all else of a call does.
    fn verify(&self, token: &str) -> Result<Arc<Verified>, Wrong> {
        if token.len() > MAX_LENGTH {
            return Err(Wrong::TooLong);
        }
        let keys = self.keys.borrow().clone();
        // Whoever finds an entry has sent a token of this digest: there is no other to be found by trying.
        let digest = Sha256::digest(token).into();
        if let Some(verified) = keys.remembered(&digest) {
            return verified.in_time();
        }
        let (claims, key) = keys.verify(token, &self.expected)?;
        // A name that isn't written as it is recorded might look like another's.
        let caller = Caller::parse(&claims.sub).ok();
        let caller = caller.filter(|caller| caller.as_str() == claims.sub);
        let verified = Arc::new(Verified {
            who: Arc::new(
                self.grants
                    .who(caller.ok_or(Wrong::Caller)?, Credential::Jwt),
            ),
            until: claims.until(),
            key,
        });
        keys.remember(digest, verified.clone());
        verified.in_time()
    }

    fn complaint(&self) -> MutexGuard<'_, Option<String>> {
        let complaint = self.complaint.lock();
        complaint.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a token is in time, and its key still trusted.
pub(super) fn is_known(verified: &Verified, keys: &watch::Sender<Arc<Keys>>) -> bool {
    keys.borrow().have(&verified.key) && verified.until > Timestamp::now()
}

/// Waits until a token has expired, or its key is trusted no longer.
pub(super) async fn ended(verified: &Verified, keys: &watch::Sender<Arc<Keys>>) -> Refusal {
    let mut changes = keys.subscribe();
    tokio::select! {
        // The sender is here, so the channel can't be closed.
        _ = changes.wait_for(|keys| !keys.have(&verified.key)) => {}
        () = passed(verified.until) => {}
    }
    Refusal::Invalid
}
