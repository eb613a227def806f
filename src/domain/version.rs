//! Timestamps, and versions of rows.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sea_orm::DeriveValueType;

/// A point in time: microseconds since 1970-01-01T00:00:00Z.
///
/// An integer in the database, so that it sorts the same way on every engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, DeriveValueType)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The current time by the system clock.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// This time plus a duration.
    #[must_use]
    pub fn plus(self, time: Duration) -> Self {
        let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// This time minus a duration.
    #[must_use]
    pub fn minus(self, time: Duration) -> Self {
        let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros))
    }

    /// The time from microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn micros(self) -> i64 {
        self.0
    }
}

/// The number of times that a row's own create or update RPC has written it, from 1; encoded in its [`Etag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, DeriveValueType)]
pub struct Version(i64);

impl Version {
    /// The version of a new row.
    pub const FIRST: Self = Self(1);

    /// The version with this number.
    #[must_use]
    pub fn from_number(number: i64) -> Self {
        Self(number)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i64 {
        self.0
    }

    /// The version after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Whether the version satisfies the etag condition of a request; without a condition it does.
    #[must_use]
    pub fn satisfies(self, condition: Option<&Etag>) -> bool {
        condition.is_none_or(|etag| etag.0 == self.etag())
    }

    /// The etag, which is opaque to callers.
    #[must_use]
    pub fn etag(self) -> String {
        format!("{:x}", self.0)
    }
}

/// An etag as sent by a caller. Any text is accepted: one that no version had just never matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etag(String);

impl Etag {
    /// The condition in a request field; `None` if the field is empty.
    #[must_use]
    pub fn parse_optional(text: String) -> Option<Self> {
        (!text.is_empty()).then_some(Self(text))
    }
}
