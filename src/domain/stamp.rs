//! When a row was written, and which writing of it this is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sea_orm::DeriveValueType;

/// A point in time: microseconds since 1970-01-01T00:00:00Z.
///
/// A whole number in the database, so that it sorts the same way on every engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, DeriveValueType)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The present time by the system's clock.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// So much later.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// So much earlier.
    #[must_use]
    pub fn before(self, time: Duration) -> Self {
        let micros = i64::try_from(time.as_micros()).unwrap_or(i64::MAX);
        Self(self.0.saturating_sub(micros))
    }

    /// A time that was told in microseconds since 1970-01-01T00:00:00Z.
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

/// How often a row's own update RPC has written it, from 1: what an [`Etag`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, DeriveValueType)]
pub struct Version(i64);

impl Version {
    /// The version of a new row.
    pub const FIRST: Self = Self(1);

    /// The version of this number.
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

    /// Whether a change that was asked for under `condition` may be made to this version.
    #[must_use]
    pub fn satisfies(self, condition: Option<&Etag>) -> bool {
        condition.is_none_or(|etag| etag.0 == self.etag())
    }

    /// The etag that callers see. Opaque to them.
    #[must_use]
    pub fn etag(self) -> String {
        format!("{:x}", self.0)
    }
}

/// An etag as a caller sent it. Any text is one: what no version has ever had just never matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Etag(String);

impl Etag {
    /// The condition that a request field holds: none if it is empty.
    #[must_use]
    pub fn condition(text: String) -> Option<Self> {
        (!text.is_empty()).then_some(Self(text))
    }
}
