//! A time limit for statements, which SQLite doesn't have by itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// As on servers: `statement_timeout`.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Until when the statements of a connection may go on.
#[derive(Clone, Debug)]
pub(in crate::store) struct TimeLimit {
    epoch: Instant,
    /// In milliseconds since `epoch`.
    until: Arc<AtomicU64>,
}

impl TimeLimit {
    pub(in crate::store) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            until: Arc::default(),
        }
    }

    /// Another read begins.
    pub(in crate::store) fn begin(&self) {
        self.set(self.epoch.elapsed() + STATEMENT_TIMEOUT);
    }

    /// Ends the statement that is under way.
    pub(in crate::store) fn interrupt(&self) {
        self.set(Duration::ZERO);
    }

    /// Whether a statement has to end.
    pub(super) fn is_over(&self) -> bool {
        let until = Duration::from_millis(self.until.load(Ordering::Relaxed));
        self.epoch.elapsed() >= until
    }

    fn set(&self, until: Duration) {
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.until.store(until, Ordering::Relaxed);
    }
}
