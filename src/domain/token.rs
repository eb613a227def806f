//! Tokens, by which callers are known.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sea_orm::DeriveValueType;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{Name, TokenId};

/// What every token begins with, so that one that has leaked is found by a search.
const PREFIX: &str = "gst_";
const ID_BYTES: usize = 16;
const SECRET_BYTES: usize = 32;

/// Who calls: the name that changes are recorded under.
#[derive(Clone, Debug, PartialEq, Eq, DeriveValueType)]
pub struct Caller(String);

impl Caller {
    /// Checks a name.
    ///
    /// # Errors
    /// What is wrong with it, for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        Name::parse(text).map(|name| Self(name.into_string()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A token as its owner sends it: which one it is, and 256 random bits. It is shown once, and kept nowhere.
pub struct Token {
    id: TokenId,
    secret: [u8; SECRET_BYTES],
}

impl Token {
    /// Makes a new one.
    ///
    /// # Errors
    /// The system has no random bits to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut secret = [0; SECRET_BYTES];
        getrandom::fill(&mut secret)?;
        Ok(Self {
            id: TokenId::generate(),
            secret,
        })
    }

    /// Reads one; nothing if it can't be one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix(PREFIX)?;
        // Room for a little more than there must be, as decoding asks for.
        let mut bytes = [0; ID_BYTES + SECRET_BYTES + 3];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).ok()?;
        let (id, secret) = bytes.get(..length)?.split_at_checked(ID_BYTES)?;
        Some(Self {
            id: TokenId::from_bytes(id.try_into().ok()?),
            secret: secret.try_into().ok()?,
        })
    }

    /// Which one it is.
    #[must_use]
    pub fn id(&self) -> TokenId {
        self.id
    }

    /// What is kept of it. A digest without salt or rounds does: nobody guesses 256 random bits.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest(Sha256::digest(self.secret).to_vec())
    }

    /// The text that its owner sends.
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

/// What is kept of a token: a SHA-256 digest of its secret.
#[derive(Clone, Debug, PartialEq, Eq, DeriveValueType)]
pub struct TokenDigest(Vec<u8>);

impl TokenDigest {
    /// Whether they are alike, in a time that doesn't tell how far they are.
    #[must_use]
    pub fn is_of(&self, token: &Token) -> bool {
        self.0.ct_eq(&Sha256::digest(token.secret)).into()
    }
}
