//! Tokens that authenticate callers.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sea_orm::DeriveValueType;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Name, TokenId};

/// Prefix of every token, so that secret scanners find leaked ones.
const PREFIX: &str = "gst_";
const ID_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;

/// The name of a caller, which changes are recorded under.
#[derive(Clone, Debug, PartialEq, Eq, DeriveValueType)]
pub struct Caller(String);

impl Caller {
    /// Checks a caller's name.
    ///
    /// # Errors
    /// What is wrong with the name, for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        Name::parse(text).map(|name| Self(name.into_string()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A token as its owner sends it: its id and a secret of 256 random bits. It is shown once, and never stored.
pub struct Token {
    id: TokenId,
    secret: [u8; SECRET_BYTES],
}

impl Token {
    /// Generates a new token.
    ///
    /// # Errors
    /// The system's random number generator fails.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)?;
        Ok(Self {
            id: TokenId::generate(),
            secret,
        })
    }

    /// Parses a token; `None` if the text is malformed.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix(PREFIX)?;
        // `decode_slice` needs a buffer slightly larger than the result.
        let mut bytes = [0; ID_BYTES + SECRET_BYTES + 3];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (id, secret) = bytes.get(..length)?.split_at_checked(ID_BYTES)?;
        Some(Self {
            id: TokenId::from_bytes(id.try_into().ok()?),
            secret: secret.try_into().ok()?,
        })
    }

    /// The token's id.
    #[must_use]
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// The digest that is stored. It needs neither salt nor iterations: 256 random bits can't be guessed.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest(Sha256::digest(self.secret).to_vec())
    }

    /// The token's text, as its owner sends it.
    #[must_use]
    pub fn reveal(&self) -> String {
        let bytes = [&self.id.uuid().into_bytes()[..], &self.secret].concat();
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, hidden)", self.id)
    }
}

/// The stored part of a token: a SHA-256 digest of its secret.
#[derive(Clone, Debug, PartialEq, Eq, DeriveValueType)]
pub struct TokenDigest(Vec<u8>);

impl TokenDigest {
    /// Whether the digest is that of the token, compared in constant time.
    #[must_use]
    pub fn matches_token(&self, token: &Token) -> bool {
        self.0.ct_eq(&Sha256::digest(token.secret)).into()
    }
}
