//! Authentication of callers: by tokens, of which every instance keeps a snapshot, by JWTs, and by client certificates.

mod certificate;
mod jwt;
mod permission_grant;
mod token;

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

use self::certificate::VerifiedCertificate;
pub use self::{
    jwt::{JwtAuthenticator, KeySource},
    permission_grant::{PermissionGrant, PermissionGrants},
    token::TokenAuthenticator,
};
use self::{
    jwt::{KeySet, VerifiedJwt},
    token::TokenSnapshot,
};
use crate::{
    domain::{Caller, Permission, Permissions, Timestamp, Token, TokenId},
    store::CallerKey,
};

/// An authenticated caller and its permissions.
#[derive(Debug)]
struct Principal {
    caller: Caller,
    permissions: Permissions,
    credential: Credential,
    key: CallerKey,
}

impl Principal {
    fn new(caller: Caller, permissions: Permissions, credential: Credential) -> Self {
        let key = CallerKey::from_identity(caller.as_str(), credential.name());
        Self {
            caller,
            permissions,
            credential,
            key,
        }
    }
}

/// The kind of credential that identified a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Credential {
    Token,
    Jwt,
    Certificate,
}

impl Credential {
    fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Jwt => "jwt",
            Self::Certificate => "certificate",
        }
    }
}

/// Why a caller can't be authenticated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthenticationError {
    /// The credentials are missing or invalid. Callers don't learn the reason.
    Invalid,
    /// The valid tokens can't be read from the database.
    Unavailable,
}

/// Authenticates the bearer tokens of requests.
#[derive(Clone, Debug)]
pub struct BearerAuthenticator {
    /// Verifies tokens that this service issued.
    pub tokens: TokenAuthenticator,
    /// Verifies JWTs of a trusted issuer, if there is one.
    pub jwts: Option<JwtAuthenticator>,
}

/// An authenticated caller, with the proof that can be checked again.
#[derive(Clone, Debug)]
pub struct Identity {
    principal: Arc<Principal>,
    proof: Proof,
}

/// What authenticated the caller.
#[derive(Clone, Debug)]
enum Proof {
    /// Valid until the certificate expires, its authority is removed, or the connection ends.
    Certificate(Arc<VerifiedCertificate>),
    Token(TokenId, Arc<watch::Sender<TokenSnapshot>>),
    Jwt(Arc<VerifiedJwt>, Arc<watch::Sender<Arc<KeySet>>>),
}

impl BearerAuthenticator {
    /// Keeps tokens and JWT keys up to date for as long as it is polled.
    pub async fn refresh_loop(&self) {
        let jwts = async {
            if let Some(jwts) = &self.jwts {
                jwts.refresh_loop().await;
            }
        };
        tokio::join!(self.tokens.refresh_loop(), jwts);
    }

    /// Authenticates the caller with this bearer token. Unless `verify` returns true, no signature is verified, and a
    /// JWT is accepted only if it was verified before.
    ///
    /// # Errors
    /// The token is invalid, or the valid tokens can't be read.
    pub fn identify(
        &self,
        text: &str,
        verify: impl Fn() -> bool,
    ) -> Result<Identity, AuthenticationError> {
        match (Token::parse(text), &self.jwts) {
            (Some(token), _) => self.tokens.identify(&token),
            (None, Some(jwts)) if verify() => jwts.identify(text),
            (None, Some(jwts)) => jwts.identify_cached(text),
            (None, None) => Err(AuthenticationError::Invalid),
        }
    }

    /// A future that waits for the next read of the tokens, if this is a token with an unknown id, which may be new;
    /// `None` otherwise.
    pub fn wait_for_token_refresh(
        &self,
        text: &str,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.tokens.wait_for_token_refresh(&Token::parse(text)?)
    }
}

impl Identity {
    /// The caller's name, under which changes are recorded.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.principal.caller
    }

    /// The key by which queues share their capacity among callers.
    pub(crate) fn key(&self) -> CallerKey {
        self.principal.key
    }

    /// Whether the caller has a permission.
    #[must_use]
    pub fn has_permission(&self, permission: Permission) -> bool {
        self.principal.permissions.allow(permission)
    }

    /// The kind of credential, for the log.
    pub(crate) fn credential(&self) -> &'static str {
        self.principal.credential.name()
    }

    /// Whether the caller has any permission at all.
    pub(crate) fn has_any_permission(&self) -> bool {
        self.principal.permissions != Permissions::NONE
    }

    /// Checks that the caller's credentials are still valid.
    ///
    /// # Errors
    /// They are no longer valid, or the valid tokens can't be read.
    pub(crate) fn revalidate(&self) -> Result<(), AuthenticationError> {
        let known = match &self.proof {
            Proof::Certificate(certificate) => certificate.is_valid(),
            Proof::Token(id, known) => return token::revalidate(*id, known),
            Proof::Jwt(verified, keys) => jwt::is_valid(verified, keys),
        };
        known.then_some(()).ok_or(AuthenticationError::Invalid)
    }

    /// Waits until the caller's credentials are no longer valid.
    pub async fn wait_until_invalid(&self) -> AuthenticationError {
        match &self.proof {
            Proof::Certificate(certificate) => {
                certificate.wait_until_invalid().await;
                AuthenticationError::Invalid
            }
            Proof::Token(id, known) => token::wait_until_invalid(*id, known).await,
            Proof::Jwt(verified, keys) => jwt::wait_until_invalid(verified, keys).await,
        }
    }
}

/// How often waiting for a point in time checks the clock, which may be set meanwhile.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);

/// Waits until this time of the clock.
async fn sleep_until(time: Timestamp) {
    loop {
        let left = time.micros() - Timestamp::now().micros();
        let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) else {
            return;
        };
        sleep(CLOCK_INTERVAL.min(Duration::from_micros(left))).await;
    }
}
