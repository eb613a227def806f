//! Who calls: by a token, of which there is a copy no older than a second, by a JWT, or by a certificate.

mod certificate;
mod grant;
mod jwt;
mod token;

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time::sleep};

use self::certificate::Certified;
pub use self::{
    grant::{Grant, Grants},
    jwt::{Jwts, Source},
    token::Tokens,
};
use self::{
    jwt::{Keys, Verified},
    token::Known,
};
use crate::{
    domain::{Caller, Permission, Permissions, Timestamp, Token, TokenId},
    store::CallerKey,
};

/// A caller, and what it may do.
#[derive(Debug)]
struct Who {
    caller: Caller,
    permissions: Permissions,
    credential: Credential,
    key: CallerKey,
}

impl Who {
    fn new(caller: Caller, permissions: Permissions, credential: Credential) -> Self {
        let key = CallerKey::of(caller.as_str(), credential.name());
        Self {
            caller,
            permissions,
            credential,
            key,
        }
    }
}

/// What a caller is known by.
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

/// Why a caller isn't known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no valid token. Why is nobody's business.
    Invalid,
    /// Which tokens are valid can't be read.
    Unavailable,
}

/// What callers can be known by who send it with each call.
#[derive(Clone, Debug)]
pub struct Bearers {
    /// Tokens of our own.
    pub tokens: Tokens,
    /// Those of an issuer that is trusted, if there is one.
    pub jwts: Option<Jwts>,
}

/// A caller who is known.
#[derive(Clone, Debug)]
pub struct Identity {
    who: Arc<Who>,
    proof: Proof,
}

/// What says so.
#[derive(Clone, Debug)]
enum Proof {
    /// A certificate, until it expires, its authority is gone, or its connection ends.
    Certificate(Arc<Certified>),
    Token(TokenId, Arc<watch::Sender<Known>>),
    Jwt(Arc<Verified>, Arc<watch::Sender<Arc<Keys>>>),
}

impl Bearers {
    /// Goes on finding out which ones are valid.
    pub async fn follow(&self) {
        let jwts = async {
            if let Some(jwts) = &self.jwts {
                jwts.follow().await;
            }
        };
        tokio::join!(self.tokens.follow(), jwts);
    }

    /// Finds out who sends this. A signature is verified only if `verify` says so; else only a JWT that was verified before is valid.
    ///
    /// # Errors
    /// It isn't valid, or that can't be found out.
    pub fn identify(&self, text: &str, verify: impl Fn() -> bool) -> Result<Identity, Refusal> {
        match (Token::parse(text), &self.jwts) {
            (Some(token), _) => self.tokens.identify(&token),
            (None, Some(jwts)) if verify() => jwts.identify(text),
            (None, Some(jwts)) => jwts.recall(text),
            (None, None) => Err(Refusal::Invalid),
        }
    }

    /// Waits for the next read of the tokens if this is a token of an unknown id, as it may be new. None otherwise.
    pub fn look_up(&self, text: &str) -> Option<impl Future<Output = ()> + Send + use<>> {
        self.tokens.look_up(&Token::parse(text)?)
    }
}

impl Identity {
    /// The name that changes are recorded under.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.who.caller
    }

    /// What the caller's places in queues are counted by.
    pub(crate) fn key(&self) -> CallerKey {
        self.who.key
    }

    /// Whether the caller has a permission.
    #[must_use]
    pub fn may(&self, permission: Permission) -> bool {
        self.who.permissions.allow(permission)
    }

    /// By what the caller is known, for the log.
    pub(crate) fn credential(&self) -> &'static str {
        self.who.credential.name()
    }

    /// Whether the caller has any permission at all.
    pub(crate) fn may_anything(&self) -> bool {
        self.who.permissions != Permissions::NONE
    }

    /// Whether the caller is still known.
    ///
    /// # Errors
    /// It isn't, or that can't be found out.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        let known = match &self.proof {
            Proof::Certificate(certified) => certified.is_valid(),
            Proof::Token(id, known) => return token::check(*id, known),
            Proof::Jwt(verified, keys) => jwt::is_known(verified, keys),
        };
        known.then_some(()).ok_or(Refusal::Invalid)
    }

    /// Waits until the caller is no longer known.
    pub async fn ended(&self) -> Refusal {
        match &self.proof {
            Proof::Certificate(certified) => {
                certified.ended().await;
                Refusal::Invalid
            }
            Proof::Token(id, known) => token::ended(*id, known).await,
            Proof::Jwt(verified, keys) => jwt::ended(verified, keys).await,
        }
    }
}

/// Clocks can be set: those who wait for a time look at the clock as often.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);

/// Waits until this time.
async fn passed(time: Timestamp) {
    loop {
        let left = time.micros() - Timestamp::now().micros();
        let Some(left) = u64::try_from(left).ok().filter(|left| *left > 0) else {
            return;
        };
        sleep(CLOCK_INTERVAL.min(Duration::from_micros(left))).await;
    }
}
