//! Health of the database: whether it is reachable, and which of its servers is in use.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{engine::sqlite::OpenFile, location::Location, outage::Outage};
use crate::error::{Error, Result};

/// Timeout of a probe. While the database is unreachable, each timeout is twice the previous one, up to
/// [`MAX_PROBE_TIMEOUT`], so that a slow connection attempt isn't aborted and restarted for ever.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_millis(1300);
const MAX_PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// The database's health, shared by everything that uses the database.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) location: Location,
    /// The open SQLite file.
    file: Option<OpenFile>,
    /// Index of the server in use.
    pub(super) server: AtomicUsize,
    pub(super) outage: Arc<Outage>,
    /// Whether the last probe succeeded.
    pub(super) reachable: watch::Sender<bool>,
    /// Whether a call has failed since the last write probe in a way that suggests the database is unreachable.
    pub(super) fault: watch::Sender<bool>,
    /// Number of calls that the database has answered. While it grows, a late probe doesn't count as a failure.
    pub(super) served: AtomicU64,
    /// When a preferred server (one earlier in the list) was last probed, or the server was last switched.
    pub(super) failback_checked: watch::Sender<Instant>,
    /// Whether the server belongs to a cluster whose nodes all have the same data.
    pub(super) clustered: AtomicBool,
    /// Timeout of the next probe.
    pub(super) next_probe_timeout: watch::Sender<Duration>,
}

impl Health {
    pub(super) fn new(
        location: Location,
        file: Option<OpenFile>,
        server: usize,
        outage: Arc<Outage>,
    ) -> Self {
        Self {
            next_probe_timeout: watch::Sender::new(probe_timeout(&location)),
            location,
            file,
            server: AtomicUsize::new(server),
            outage,
            reachable: watch::Sender::new(true),
            fault: watch::Sender::new(false),
            served: AtomicU64::new(0),
            failback_checked: watch::Sender::new(Instant::now()),
            clustered: AtomicBool::new(false),
        }
    }

    /// Index of the server in use.
    pub(super) fn server(&self) -> usize {
        self.server.load(Ordering::Relaxed)
    }

    /// Fails fast while the database is unreachable: waiting for connections would only pile up calls.
    pub(super) fn check(&self) -> Result<()> {
        if *self.reachable.borrow() {
            Ok(())
        } else {
            Err(Error::Unavailable(
                "the last probe didn't get through".into(),
            ))
        }
    }

    /// Fails if the database is a file that was moved away or replaced: writes to it would be lost.
    pub(super) fn check_file(&self) -> Result<()> {
        let checked = self.file.as_ref().map_or(Ok(()), OpenFile::check);
        checked.map_err(|reason| {
            self.fault.send_replace(true);
            Error::Unavailable(reason.into())
        })
    }

    /// Runs `work`, and aborts it with `Error::Unavailable` if the database becomes unreachable or another server is
    /// used. On SQLite work is never aborted: a file doesn't become unreachable.
    pub(super) async fn while_reachable<T>(
        &self,
        work: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        if let Location::Sqlite(_) = self.location {
            return work.await;
        }
        self.check()?;
        let mut reachable = self.reachable.subscribe();
        let mut ended = self.outage.ended.subscribe();
        tokio::select! {
            biased;
            result = work => result,
            _ = reachable.wait_for(|reachable| !*reachable) => {
                Err(Error::Unavailable("it went away meanwhile".into()))
            }
            _ = ended.changed() => {
                Err(Error::Unavailable("another server is used meanwhile".into()))
            }
        }
    }

    /// Requests a probe if the result is an error that an unreachable database may have caused; otherwise counts an
    /// answered call.
    pub(super) fn record_result<T>(&self, result: &Result<T>) {
        match result {
            Err(Error::Unavailable(_) | Error::CommitUnknown(_)) => {
                self.fault.send_replace(true);
            }
            Err(Error::Overloaded(_)) => {}
            _ => drop(self.served.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Records whether a probe succeeded.
    pub(super) fn record_probe(&self, reachable: bool) {
        let next_probe_timeout = if reachable {
            probe_timeout(&self.location)
        } else {
            self.outage.begin();
            MAX_PROBE_TIMEOUT.min(*self.next_probe_timeout.borrow() * 2)
        };
        self.next_probe_timeout.send_replace(next_probe_timeout);
        let before = self.reachable.send_replace(reachable);
        if reachable && !before {
            self.outage.end();
        }
    }
}

/// Timeout of a probe while the database is reachable. SQLite has no failover and no network in between: a late probe
/// only means that the machine is busy.
fn probe_timeout(location: &Location) -> Duration {
    match location {
        Location::Sqlite(_) => MAX_PROBE_TIMEOUT,
        _ => PROBE_TIMEOUT,
    }
}
