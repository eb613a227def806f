//! When the database was away, which its connections don't outlive.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// A connection may have been on its way to another server for as long before it was open.
const OPENING: Duration = Duration::from_secs(1);

/// When the database was last found again after it had been away.
#[derive(Debug, Default)]
pub(super) struct Outage {
    pub(super) ended: watch::Sender<Option<Instant>>,
    away: watch::Sender<bool>,
}

impl Outage {
    /// Whether a connection of this age is of no use: the database is away, or was since it was begun to open.
    pub(super) fn spoils(&self, age: Duration) -> bool {
        let since = age + OPENING;
        let ended = self.ended.borrow();
        *self.away.borrow() || ended.is_some_and(|ended| ended.elapsed() <= since)
    }

    /// Waits until the database goes away, or another server is used.
    pub(super) async fn strikes(&self) {
        let (mut away, mut ended) = (self.away.subscribe(), self.ended.subscribe());
        tokio::select! {
            _ = away.wait_for(|away| *away) => {}
            _ = ended.changed() => {}
        }
    }

    /// Notes that the database is away.
    pub(super) fn begin(&self) {
        self.away.send_replace(true);
    }

    /// Notes whether a look at it succeeded.
    pub(super) fn note(&self, there: bool) {
        if !there {
            self.begin();
        } else if *self.away.borrow() {
            self.end();
        }
    }

    /// Notes that it is there again, or that another server is used.
    pub(super) fn end(&self) {
        self.away.send_replace(false);
        self.ended.send_replace(Some(Instant::now()));
    }
}
