//! Outages of the database, which invalidate its connections.

use std::time::{Duration, Instant};

use tokio::sync::watch;

/// A connection that was opened up to this long after an outage ended is discarded, too: its attempt may have begun
/// before, to another server.
const CONNECT_ALLOWANCE: Duration = Duration::from_secs(1);

/// The current and the last outage of the database.
#[derive(Debug, Default)]
pub(super) struct Outage {
    pub(super) ended: watch::Sender<Option<Instant>>,
    unreachable: watch::Sender<bool>,
}

impl Outage {
    /// Whether a connection of this age must be discarded: the database is unreachable, or was since the connection
    /// attempt began.
    pub(super) fn invalidates(&self, age: Duration) -> bool {
        let since = age + CONNECT_ALLOWANCE;
        let ended = self.ended.borrow();
        *self.unreachable.borrow() || ended.is_some_and(|ended| ended.elapsed() <= since)
    }

    /// Waits until the database becomes unreachable, or another server is used.
    pub(super) async fn wait_for_start(&self) {
        let (mut unreachable, mut ended) = (self.unreachable.subscribe(), self.ended.subscribe());
        tokio::select! {
            _ = unreachable.wait_for(|unreachable| *unreachable) => {}
            _ = ended.changed() => {}
        }
    }

    /// Records that the database is unreachable.
    pub(super) fn begin(&self) {
        self.unreachable.send_replace(true);
    }

    /// Records whether a probe succeeded.
    pub(super) fn record_probe(&self, reachable: bool) {
        if !reachable {
            self.begin();
        } else if *self.unreachable.borrow() {
            self.end();
        }
    }

    /// Records that the database is reachable again, or that another server is used.
    pub(super) fn end(&self) {
        self.unreachable.send_replace(false);
        self.ended.send_replace(Some(Instant::now()));
    }
}
