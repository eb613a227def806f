//! The claims of JWTs, and which tokens are access tokens.

use std::time::Duration;

use serde::{Deserialize, de::IgnoredAny};

use crate::domain::Timestamp;

/// Tolerated difference between the issuer's clock and ours, in seconds.
pub(super) const LEEWAY: u64 = 10;
/// The prefix of a media type, which a `typ` header may omit.
const PREFIX: &str = "application/";
/// The `typ` claims of Keycloak's tokens that aren't access tokens.
const OTHER_TYPES: [&str; 5] = ["ID", "Serialized-ID", "Logout", "Refresh", "Offline"];

/// The values that a token is checked against.
#[derive(Debug)]
pub(crate) struct ExpectedClaims {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    /// The required `typ` header, if there is one.
    pub(crate) kind: Option<String>,
}

/// The claims that are read beside those that jsonwebtoken verifies.
#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    /// The caller.
    pub(crate) sub: String,
    exp: f64,
    /// Declared as a single string, because verification alone would accept a list, too.
    #[serde(rename = "iss")]
    _issuer: String,
    /// Keycloak's kind of token: `Bearer`, `ID`, `Refresh` and others.
    typ: Option<String>,
    /// Claims that only ID tokens have (`OpenID` Connect Core, section 2), and logout tokens (Back-Channel Logout,
    /// section 2.4).
    nonce: Option<IgnoredAny>,
    at_hash: Option<IgnoredAny>,
    c_hash: Option<IgnoredAny>,
    events: Option<IgnoredAny>,
}

impl ExpectedClaims {
    /// Whether a `typ` header (RFC 7515, section 4.1.9) is an access token's, as far as it is specific (RFC 9068,
    /// section 2.1).
    pub(super) fn is_type(&self, typ: Option<&str>) -> bool {
        let is = |wanted: &str| {
            typ.is_some_and(|typ| {
                let short = typ.get(..PREFIX.len());
                let short = short.filter(|prefix| prefix.eq_ignore_ascii_case(PREFIX));
                let typ = short.map_or(typ, |prefix| &typ[prefix.len()..]);
                typ.eq_ignore_ascii_case(wanted)
            })
        };
        match &self.kind {
            Some(kind) => is(kind),
            None => typ.is_none() || is("JWT") || is("at+jwt"),
        }
    }
}

impl Claims {
    /// Whether the claims identify an ID, logout or refresh token.
    pub(super) fn are_not_access_token(&self) -> bool {
        let named = self.typ.as_deref().is_some_and(|typ| {
            OTHER_TYPES
                .iter()
                .any(|other| other.eq_ignore_ascii_case(typ))
        });
        let only_theirs = [&self.nonce, &self.at_hash, &self.c_hash, &self.events];
        named || only_theirs.iter().any(|claim| claim.is_some())
    }

    /// When the token expires, including the tolerance of [`LEEWAY`].
    pub(crate) fn expires_at(&self) -> Timestamp {
        let since = Duration::try_from_secs_f64(self.exp).unwrap_or(Duration::MAX);
        let since = since.saturating_add(Duration::from_secs(LEEWAY));
        Timestamp::from_micros(0).plus(since)
    }
}
