use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, KeyOperations, PublicKeyUse},
};
use quick_cache::sync::Cache;

use super::{
    super::Principal,
    JwtError,
    claims::{Claims, ExpectedClaims, LEEWAY},
};
use crate::domain::Timestamp;

/// Maximum number of verified tokens in the cache: some 10 MB if the callers' names have the maximum length.
const MAX_CACHED_TOKENS: usize = 10_000;

/// The keys of a JWK set (RFC 7517) that can verify signatures, and a cache of the tokens that they have verified.
pub(crate) struct KeySet {
    contents: Vec<u8>,
    keys: Vec<Arc<VerificationKey>>,
    verified: Cache<[u8; 32], Arc<VerifiedJwt>>,
}

/// A key, and the algorithms that it may be used with: the token alone never chooses the algorithm.
#[derive(Debug)]
pub(crate) struct VerificationKey {
    jwk: Jwk,
    algorithms: Vec<Algorithm>,
    decoding: DecodingKey,
}

/// A token that was valid when it was verified.
#[derive(Debug)]
pub(crate) struct VerifiedJwt {
    pub(crate) principal: Arc<Principal>,
    /// The token is invalid from this time on.
    pub(crate) expires_at: Timestamp,
    pub(crate) key: Arc<VerificationKey>,
}

impl KeySet {
    /// Parses a JWK set. Keys for other uses, such as encryption, and of unknown types are ignored.
    ///
    /// # Errors
    /// It isn't a JWK set, contains a symmetric key or an ambiguous one, or has no key that can verify signatures.
    pub(crate) fn parse(contents: Vec<u8>) -> Result<Self, String> {
        let set: JwkSet = serde_json::from_slice(&contents).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            format!("it is no JWK set (line {line}, column {column})")
        })?;
        let mut keys: Vec<Arc<VerificationKey>> = Vec::new();
        for (number, jwk) in set.keys.into_iter().enumerate() {
            let id = jwk.common.key_id.clone();
            let name =
                || id.map_or_else(|| format!("number {}", number + 1), |id| format!("{id:?}"));
            if let AlgorithmParameters::OctetKey(_) = jwk.algorithm {
                return Err(format!(
                    "the key {} in it is symmetric: anyone who can verify with it can also sign",
                    name()
                ));
            }
            let Some(key) = VerificationKey::of(jwk) else {
                continue;
            };
            if keys.iter().any(|other| other.is_ambiguous_with(&key)) {
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

    /// Whether the keys were parsed from these contents.
    pub(crate) fn are_parsed_from(&self, contents: &[u8]) -> bool {
        self.contents == contents
    }

    /// Whether the set contains a key.
    pub(crate) fn contains(&self, key: &VerificationKey) -> bool {
        self.keys.iter().any(|one| one.jwk == key.jwk)
    }

    /// A token that these keys have verified.
    pub(crate) fn cached(&self, digest: &[u8; 32]) -> Option<Arc<VerifiedJwt>> {
        self.verified.get(digest)
    }

    /// Caches a token that these keys have verified.
    pub(crate) fn cache(&self, digest: [u8; 32], verified: Arc<VerifiedJwt>) {
        self.verified.insert(digest, verified);
    }

    /// Verifies a token. Of the header's references to keys, only the key id is used.
    ///
    /// # Errors
    /// Why the token is rejected.
    pub(crate) fn verify(
        &self,
        token: &str,
        expected: &ExpectedClaims,
    ) -> Result<(Claims, Arc<VerificationKey>), JwtError> {
        let header = decode_header(token)?;
        // No critical extension (RFC 7515, section 4.1.11) is supported.
        if header.crit.is_some() {
            return Err(JwtError::CriticalHeader);
        }
        if !expected.is_type(header.typ.as_deref()) {
            return Err(JwtError::Type);
        }
        let key = self.find(header.kid.as_deref(), header.alg)?;
        let mut validation = Validation::new(header.alg);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        validation.set_issuer(&[&expected.issuer]);
        validation.set_audience(&[&expected.audience]);
        validation.validate_nbf = true;
        validation.leeway = LEEWAY;
        let decoded = decode::<Claims>(token, &key.decoding, &validation)?;
        if !is_utf8(token) {
            return Err(JwtError::Malformed);
        }
        if decoded.claims.are_not_access_token() {
            return Err(JwtError::Type);
        }
        Ok((decoded.claims, key.clone()))
    }

    /// The key with this id for this algorithm. A token may omit the id if only one key is possible.
    fn find(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<&Arc<VerificationKey>, JwtError> {
        let named =
            |key: &&Arc<VerificationKey>| id.is_none() || key.jwk.common.key_id.as_deref() == id;
        if !self.keys.iter().any(|key| named(&key)) {
            return Err(JwtError::UnknownKey);
        }
        let is_for = |key: &&Arc<VerificationKey>| key.algorithms.contains(&algorithm);
        let mut found = self.keys.iter().filter(named).filter(is_for);
        let only = found.next().filter(|_| found.next().is_none());
        only.ok_or(JwtError::Algorithm)
    }
}

impl Default for KeySet {
    fn default() -> Self {
        Self {
            contents: Vec::new(),
            keys: Vec::new(),
            verified: Cache::new(MAX_CACHED_TOKENS),
        }
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeySet").field(&self.keys).finish()
    }
}

impl VerificationKey {
    /// `None` if the key isn't meant to verify signatures, or is too weak.
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

    /// Whether both keys have the same id and an algorithm in common, so that a token can't tell which one it means.
    fn is_ambiguous_with(&self, other: &Self) -> bool {
        let id = &self.jwk.common.key_id;
        let shared = |algorithm| other.algorithms.contains(algorithm);
        id.is_some() && *id == other.jwk.common.key_id && self.algorithms.iter().any(shared)
    }
}

/// The algorithms that a key can be used with; none if its type or size isn't supported.
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

impl VerifiedJwt {
    /// Returns the token if it hasn't expired.
    pub(crate) fn check_not_expired(self: Arc<Self>) -> Result<Arc<Self>, JwtError> {
        if self.expires_at <= Timestamp::now() {
            return Err(JwtError::Expired);
        }
        Ok(self)
    }
}

/// Whether header and claims are UTF-8 (RFC 7519, section 7.2): the JSON parser doesn't check the parts that it skips.
fn is_utf8(token: &str) -> bool {
    let mut parts = token.split('.').take(2);
    parts.all(|part| {
        let bytes = URL_SAFE_NO_PAD.decode(part);
        bytes.is_ok_and(|bytes| String::from_utf8(bytes).is_ok())
    })
}
