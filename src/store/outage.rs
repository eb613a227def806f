//! When the database was away, which its connections don't outlive.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use tokio::sync::watch;

/// A connection may have been on its way to another server for as long before it was open.
const OPENING: Duration = Duration::from_secs(1);

/// When the database was last found again after it had been away.
#[derive(Debug, Default)]
pub(super) struct Outage {
    pub(super) ended: watch::Sender<Option<Instant>>,
    away: AtomicBool,
}

impl Outage {
    /// Whether a connection of this age is of no use: the database is away, or was since it was begun to open.
    pub(super) fn spoils(&self, age: Duration) -> bool {
        let since = age + OPENING;
        let ended = self.ended.borrow();
        self.away.load(Ordering::Relaxed) || ended.is_some_and(|ended| ended.elapsed() <= since)
    }

    /// Notes that the database is away.
    pub(super) fn begin(&self) {
        self.away.store(true, Ordering::Relaxed);
    }

    /// Notes that it is there again, or that another server is used.
    pub(super) fn end(&self) {
        self.away.store(false, Ordering::Relaxed);
        self.ended.send_replace(Some(Instant::now()));
    }
}
