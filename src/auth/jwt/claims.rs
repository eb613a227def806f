//! What a token must say.

use std::time::Duration;

use serde::{Deserialize, de::IgnoredAny};

use crate::domain::Timestamp;

/// How far the issuer's clock and ours may be apart, in seconds.
pub(super) const LEEWAY: u64 = 10;
/// What may be left out of a `typ`.
const PREFIX: &str = "application/";
/// The `typ` claims of Keycloak's tokens that aren't for services.
const OTHER_TYPES: [&str; 5] = ["ID", "Serialized-ID", "Logout", "Refresh", "Offline"];

/// What a token must say.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    /// Its `typ`, if one is insisted on.
    pub(crate) kind: Option<String>,
}

/// What a token says, beside what is looked at while it is verified.
#[derive(Debug, Deserialize)]
pub(crate) struct Claims {
    /// Who calls.
    pub(crate) sub: String,
    exp: f64,
    /// Compared while it is verified, which would take a list, too.
    #[serde(rename = "iss")]
    _issuer: String,
    /// What Keycloak says that a token is: `Bearer`, `ID`, `Refresh` and others.
    typ: Option<String>,
    /// What only ID tokens have (`OpenID` Connect Core, section 2), and logout tokens (Back-Channel Logout, section 2.4).
    nonce: Option<IgnoredAny>,
    at_hash: Option<IgnoredAny>,
    c_hash: Option<IgnoredAny>,
    events: Option<IgnoredAny>,
}

impl Expected {
    /// Whether a header of this `typ` (RFC 7515, section 4.1.9) is one of an access token, as far as it says so
    /// (RFC 9068, section 2.1).
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
    /// Whether they say that the token is an ID, logout or refresh token.
    pub(super) fn are_of_another_type(&self) -> bool {
        let named = self.typ.as_deref().is_some_and(|typ| {
            OTHER_TYPES
                .iter()
                .any(|other| other.eq_ignore_ascii_case(typ))
        });
        let only_theirs = [&self.nonce, &self.at_hash, &self.c_hash, &self.events];
        named || only_theirs.iter().any(|claim| claim.is_some())
    }

    /// When it is good no more.
    pub(crate) fn until(&self) -> Timestamp {
        let since = Duration::try_from_secs_f64(self.exp).unwrap_or(Duration::MAX);
        let since = since.saturating_add(Duration::from_secs(LEEWAY));
        Timestamp::from_micros(0).after(since)
    }
}
