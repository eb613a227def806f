//! JSON Web Tokens (RFC 7519), signed by a trusted issuer, whose keys are reloaded while the server runs.

mod claims;
mod error;
mod key_source;
mod keys;

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

pub use self::key_source::KeySource;
pub(super) use self::keys::{KeySet, VerifiedJwt};
use self::{claims::ExpectedClaims, error::JwtError};
use super::{AuthenticationError, Credential, Identity, PermissionGrants, Proof, sleep_until};
use crate::domain::{Caller, Timestamp};

/// How often a key file is checked for changes.
const FILE_INTERVAL: Duration = Duration::from_secs(1);
/// How often keys are read from a URL.
const URL_INTERVAL: Duration = Duration::from_secs(300);
/// Minimum time between two reads of a URL, so that callers can't cause more reads by sending tokens with unknown keys.
const URL_PAUSE: Duration = Duration::from_secs(5);
/// Longer tokens are rejected unread, in bytes.
const MAX_LENGTH: usize = 8 * 1024;

/// Authenticates JWTs of a trusted issuer.
#[derive(Clone, Debug)]
pub struct JwtAuthenticator {
    source: Arc<KeySource>,
    expected: Arc<ExpectedClaims>,
    grants: PermissionGrants,
    keys: Arc<watch::Sender<Arc<KeySet>>>,
    /// Notified when a token names an unknown key.
    unknown_key_seen: Arc<Notify>,
    /// The error of the last read, so that each one is logged once.
    last_error: Arc<Mutex<Option<String>>>,
}

impl JwtAuthenticator {
    /// Reads the keys, if they are in a file: a URL is read by [`Self::load_initial_keys`].
    ///
    /// # Errors
    /// What is wrong with them, for the operator.
    pub fn load(
        source: KeySource,
        issuer: String,
        audience: String,
        kind: Option<String>,
        grants: PermissionGrants,
    ) -> Result<Self, String> {
        let keys = match &source {
            KeySource::File(path) => key_source::read(path).and_then(KeySet::parse),
            KeySource::Url(url) => key_source::check(url).map(|()| KeySet::default()),
        };
        let keys = keys.map_err(|reason| format!("--jwt-keys {source}: {reason}"))?;
        Ok(Self {
            source: Arc::new(source),
            expected: Arc::new(ExpectedClaims {
                issuer,
                audience,
                kind,
            }),
            grants,
            keys: Arc::new(watch::Sender::new(Arc::new(keys))),
            unknown_key_seen: Arc::default(),
            last_error: Arc::default(),
        })
    }

    /// Reads a URL for the first time, so that the first callers can be authenticated. The server starts even if the
    /// URL is unavailable, because tokens of this service and certificates don't need it.
    pub async fn load_initial_keys(&self) {
        if let KeySource::Url(_) = *self.source {
            self.reload_and_log().await;
        }
    }

    /// Reloads the keys, periodically and at SIGHUP.
    pub(super) async fn refresh_loop(&self) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            return;
        };
        loop {
            self.wait_until_due(&mut hangup).await;
            self.reload_and_log().await;
        }
    }

    /// Waits until the keys should be read again.
    async fn wait_until_due(&self, hangup: &mut Signal) {
        let failed = self.last_error().is_some();
        let (interval, pause) = match *self.source {
            KeySource::File(_) => (FILE_INTERVAL, FILE_INTERVAL),
            KeySource::Url(_) if failed => (URL_PAUSE, URL_PAUSE),
            KeySource::Url(_) => (URL_INTERVAL, URL_PAUSE),
        };
        let asked_for = async {
            sleep(pause).await;
            self.unknown_key_seen.notified().await;
        };
        tokio::select! {
            _ = hangup.recv() => {}
            () = sleep(interval) => {}
            () = asked_for => {}
        }
    }

    async fn reload_and_log(&self) {
        let last_error = match self.reload().await {
            Ok(true) => {
                tracing::info!("JWT keys reloaded");
                None
            }
            Ok(false) => None,
            Err(reason) => Some(reason),
        };
        let mut before = self.last_error();
        if let Some(reason) = &last_error
            && before.as_ref() != Some(reason)
        {
            let source = &self.source;
            tracing::warn!(
                "cannot read JWT keys from {source}: {reason}; the previous keys stay in use"
            );
        }
        *before = last_error;
    }

    /// Reads the keys; true if they have changed.
    async fn reload(&self) -> Result<bool, String> {
        let contents = match &*self.source {
            KeySource::File(path) => key_source::read(path)?,
            KeySource::Url(url) => key_source::fetch(url).await?,
        };
        if self.keys.borrow().are_parsed_from(&contents) {
            return Ok(false);
        }
        // Tokens that the old keys verified are forgotten with them.
        self.keys.send_replace(Arc::new(KeySet::parse(contents)?));
        Ok(true)
    }

    /// Authenticates the caller with this token.
    ///
    /// # Errors
    /// The token isn't valid.
    pub fn identify(&self, token: &str) -> Result<Identity, AuthenticationError> {
        let verified = self.verify(token).map_err(|wrong| {
            if wrong == JwtError::UnknownKey {
                self.unknown_key_seen.notify_one();
            }
            tracing::debug!(reason = %wrong, "JWT rejected");
            AuthenticationError::Invalid
        })?;
        Ok(self.identity(verified))
    }

    /// Authenticates the caller with this token if the token was verified before, without verifying a signature.
    ///
    /// # Errors
    /// The token wasn't verified before, or has expired.
    pub(super) fn identify_cached(&self, token: &str) -> Result<Identity, AuthenticationError> {
        let verified = self.keys.borrow().cached(&Sha256::digest(token).into());
        let verified = verified.and_then(|verified| verified.check_not_expired().ok());
        verified
            .map(|verified| self.identity(verified))
            .ok_or(AuthenticationError::Invalid)
    }

    fn identity(&self, verified: Arc<VerifiedJwt>) -> Identity {
        Identity {
            principal: verified.principal.clone(),
            proof: Proof::Jwt(verified, self.keys.clone()),
        }
    }

    /// Verifies a token, or takes it from the cache: verifying a signature costs some ten times as much as the rest of
    /// a call.
    fn verify(&self, token: &str) -> Result<Arc<VerifiedJwt>, JwtError> {
        if token.len() > MAX_LENGTH {
            return Err(JwtError::TooLong);
        }
        let keys = self.keys.borrow().clone();
        // The cache can't be probed for other callers' tokens: only the token itself has this digest.
        let digest = Sha256::digest(token).into();
        if let Some(verified) = keys.cached(&digest) {
            return verified.check_not_expired();
        }
        let (claims, key) = keys.verify(token, &self.expected)?;
        // Names must already be in the form in which they are recorded, as another one might look like a different
        // caller's.
        let caller = Caller::parse(&claims.sub).ok();
        let caller = caller.filter(|caller| caller.as_str() == claims.sub);
        let verified = Arc::new(VerifiedJwt {
            principal: Arc::new(
                self.grants
                    .principal(caller.ok_or(JwtError::InvalidSubject)?, Credential::Jwt),
            ),
            expires_at: claims.expires_at(),
            key,
        });
        keys.cache(digest, verified.clone());
        verified.check_not_expired()
    }

    fn last_error(&self) -> MutexGuard<'_, Option<String>> {
        let last_error = self.last_error.lock();
        last_error.unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a token hasn't expired and its key is still trusted.
pub(super) fn is_valid(verified: &VerifiedJwt, keys: &watch::Sender<Arc<KeySet>>) -> bool {
    keys.borrow().contains(&verified.key) && verified.expires_at > Timestamp::now()
}

/// Waits until a token has expired or its key is no longer trusted.
pub(super) async fn wait_until_invalid(
    verified: &VerifiedJwt,
    keys: &watch::Sender<Arc<KeySet>>,
) -> AuthenticationError {
    let mut changes = keys.subscribe();
    tokio::select! {
        // The channel can't close: its sender is borrowed here.
        _ = changes.wait_for(|keys| !keys.contains(&verified.key)) => {}
        () = sleep_until(verified.expires_at) => {}
    }
    AuthenticationError::Invalid
}
