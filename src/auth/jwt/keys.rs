use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyOperations, PublicKeyUse},
};
use quick_cache::sync::Cache;

use super::{
    super::Who,
    Wrong,
    claims::{Claims, Expected, LEEWAY},
};
use crate::domain::Timestamp;

/// How many tokens are remembered: some 10 MB, if their callers' names are as long as they may be.
const REMEMBERED: usize = 10_000;

/// The keys of a JWK set (RFC 7517) that signatures can be verified with, and the tokens that were.
pub(crate) struct Keys {
    contents: Vec<u8>,
    keys: Vec<Arc<Key>>,
    verified: Cache<[u8; 32], Arc<Verified>>,
}

/// A key, and the algorithms that it is for: never one that the token alone has chosen.
#[derive(Debug)]
pub(crate) struct Key {
    jwk: Jwk,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

/// A token that was good when it was looked at.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) who: Arc<Who>,
    /// From then on it is good no more.
    pub(crate) until: Timestamp,
    pub(crate) key: Arc<Key>,
}

impl Keys {
    /// Reads a JWK set. Keys for something else, such as encryption, and of kinds that aren't known are passed over.
    ///
    /// # Errors
    /// It is none, holds a secret, or nothing to verify with.
    pub(crate) fn parse(contents: Vec<u8>) -> Result<Self, String> {
        let set: JwkSet = serde_json::from_slice(&contents).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("it is no JWK set (line {line}, column {column})")
        })?;
        let mut keys: Vec<Arc<Key>> = Vec::new();
        for (number, jwk) in set.keys.into_iter().enumerate() {
            let id = jwk.common.key_id.clone();
            let name =
                || id.map_or_else(|| format!("number {}", number + 1), |id| format!("{id:?}"));
            if let AlgorithmParameters::OctetKey(_) = jwk.algorithm {
                return Err(format!(
                    "the key {} in it is symmetric: whoever can verify with it can sign",
                    name()
                ));
            }
            let Some(key) = Key::of(jwk) else { continue };
            if keys.iter().any(|other| other.is_like(&key)) {
                return Err(format!("the key {} is in it twice", name()));
            }
            keys.push(Arc::new(key));
        }
        if keys.is_empty() {
            return Err("there is no key in it to verify signatures with".to_owned());
        }
        Ok(Self {
            contents,
            keys,
            ..Self::default()
        })
    }

    /// Whether they were read from this.
    pub(crate) fn are_of(&self, contents: &[u8]) -> bool {
        self.contents == contents
    }

    /// Whether a key is one of them.
    pub(crate) fn have(&self, key: &Key) -> bool {
        self.keys.iter().any(|one| one.jwk == key.jwk)
    }

    /// A token that was verified by them.
    pub(crate) fn remembered(&self, digest: &[u8; 32]) -> Option<Arc<Verified>> {
        self.verified.get(digest)
    }

    /// Remembers a token that they have verified.
    pub(crate) fn remember(&self, digest: [u8; 32], verified: Arc<Verified>) {
        self.verified.insert(digest, verified);
    }

    /// Verifies a token. Nothing that it says of keys is followed but their id.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn verify(
        &self,
        token: &str,
        expected: &Expected,
    ) -> Result<(Claims, Arc<Key>), Wrong> {
        let header = decode_header(token)?;
        // What must be understood (RFC 7515, section 4.1.11) isn't.
        if header.crit.is_some() {
            return Err(Wrong::Critical);
        }
        if !expected.is_type(header.typ.as_deref()) {
            return Err(Wrong::Type);
        }
        let key = self.find(header.kid.as_deref(), header.alg)?;
        let mut validation = Validation::new(header.alg);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&expected.issuer]);
        validation.set_audience(&[&expected.audience]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY;
        let decoded = decode::<Claims>(token, &key.decoding, &validation)?;
        if !is_text(token) {
            return Err(Wrong::Form);
        }
        if decoded.claims.are_of_another_type() {
            return Err(Wrong::Type);
        }
        Ok((decoded.claims, key.clone()))
    }

    /// The key of this id that is for this algorithm. A token may leave the id out if there is no choice.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<&Arc<Key>, Wrong> {
        let named = |key: &&Arc<Key>| id.is_none() || key.jwk.common.key_id.as_deref() == id;
        if !self.keys.iter().any(|key| named(&key)) {
            return Err(Wrong::UnknownKey);
        }
        let is_for = |key: &&Arc<Key>| key.algorithms.contains(&algorithm);
        let mut found = self.keys.iter().filter(named).filter(is_for);
        let only = found.next().filter(|_| found.next().is_none());
        only.ok_or(Wrong::Algorithm)
    }
}

impl Default for Keys {
    fn default() -> Self {
        Self {
            contents: Vec::new(),
            keys: Vec::new(),
            verified: Cache::new(REMEMBERED),
        }
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keys").field(&self.keys).finish()
    }
}

impl Key {
    /// Nothing if it isn't there to verify signatures with, or is too weak for it.
    fn of(jwk: Jwk) -> Option<Self> {
        let common = &jwk.common;
        let signs = match (&common.public_key_use, &common.key_operations) {
            (Some(only), _) if *only != PublicKeyUse::Signature => false,
            (_, Some(operations)) => operations.contains(&KeyOperations::Verify),
            _ => true,
        };
        let mut algorithms = algorithms(&jwk.algorithm).to_vec();
        if let Some(only) = common.key_algorithm {
            let only = Algorithm::try_from(only).ok();
            algorithms.retain(|algorithm| Some(*algorithm) == only);
        }
        if !signs || algorithms.is_empty() {
            return None;
        }
        let decoding = DecodingKey::from_jwk(&jwk).ok()?;
        Some(Self {
            jwk,
            algorithms,
            decoding,
        })
    }

    /// Whether a token couldn't say which of them it means.
    fn is_like(&self, other: &Self) -> bool {
        let id = &self.jwk.common.key_id;
        let shared = |algorithm| other.algorithms.contains(algorithm);
        id.is_some() && *id == other.jwk.common.key_id && self.algorithms.iter().any(shared)
    }
}

/// The algorithms that a key can be for.
fn algorithms(key: &AlgorithmParameters) -> &'static [Algorithm] {
    let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).map_or(0, |bytes| bytes.len());
    match key {
        AlgorithmParameters::RSA(key) if (256..=1024).contains(&bytes(&key.n)) => {
            AlgorithmFamily::Rsa.algorithms()
        }
        AlgorithmParameters::EllipticCurve(key) => {
            match (&key.curve, bytes(&key.x), bytes(&key.y)) {
                (EllipticCurve::P256, 32, 32) => &[Algorithm::ES256],
                (EllipticCurve::P384, 48, 48) => &[Algorithm::ES384],
                _ => &[],
            }
        }
        AlgorithmParameters::OctetKeyPair(key)
            if key.curve == EllipticCurve::Ed25519 && bytes(&key.x) == 32 =>
        {
            &[Algorithm::EdDSA]
        }
        _ => &[],
    }
}

impl Verified {
    /// The same, if it hasn't expired since.
    pub(crate) fn in_time(self: Arc<Self>) -> Result<Arc<Self>, Wrong> {
        if self.until <= Timestamp::now() {
            return Err(Wrong::Expired);
        }
        Ok(self)
    }
}

/// Whether header and claims are UTF-8 (RFC 7519, section 7.2): the reader of JSON doesn't look at what it passes over.
fn is_text(token: &str) -> bool {
    let mut parts = token.split('.').take(2);
    parts.all(|part| {
        let bytes = URL_SAFE_NO_PAD.decode(part);
        bytes.is_ok_and(|bytes| String::from_utf8(bytes).is_ok())
    })
}
