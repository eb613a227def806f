//! A deadline for statements, which SQLite itself doesn't have.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The same as on servers, by `statement_timeout` or `max_statement_time`.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(30);

/// When the statements of a read must end.
#[derive(Clone, Debug)]
pub(in crate::store) struct StatementDeadline {
    epoch: Instant,
    /// Milliseconds since `epoch`.
    until: Arc<AtomicU64>,
}

impl StatementDeadline {
    pub(in crate::store) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            until: Arc::default(),
        }
    }

    /// Starts the timeout of another read.
    pub(in crate::store) fn begin(&self) {
        self.set(self.epoch.elapsed() + STATEMENT_TIMEOUT);
    }

    /// Interrupts the running statement.
    pub(in crate::store) fn interrupt(&self) {
        self.set(Duration::ZERO);
    }

    /// Whether the running statement must end now.
    pub(super) fn is_expired(&self) -> bool {
        let until = Duration::from_millis(self.until.load(Ordering::Relaxed));
        self.epoch.elapsed() >= until
    }

    fn set(&self, until: Duration) {
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.until.store(until, Ordering::Relaxed);
    }
}
