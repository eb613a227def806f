//! What is known of the database's health: whether it is there, and which of its servers is the one to use.

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

/// How long a probe may take. While the database is away each may take twice as long as the one before, up to
/// [`MAX_PROBE_TIMEOUT`]: where connecting takes its time, it must not be begun anew for ever.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_millis(1300);
const MAX_PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// What is known of the database, by all that use it.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) location: Location,
    /// The file of SQLite's that is open.
    file: Option<OpenFile>,
    /// Which of the servers is used.
    pub(super) server: AtomicUsize,
    pub(super) outage: Arc<Outage>,
    /// Whether the last probe got through.
    pub(super) reachable: watch::Sender<bool>,
    /// Whether something has failed for want of the database since the last probe.
    pub(super) fault: watch::Sender<bool>,
    /// How many calls the database has served: as long as it does, a probe that is late says nothing.
    pub(super) served: AtomicU64,
    /// When it was last looked for a server that comes before the present one, or another one was used.
    pub(super) returned: watch::Sender<Instant>,
    /// Whether the server is one of a cluster that has the same data everywhere.
    pub(super) clustered: AtomicBool,
    /// How long the next probe may take.
    pub(super) patience: watch::Sender<Duration>,
}

impl Health {
    pub(super) fn new(
        location: Location,
        file: Option<OpenFile>,
        server: usize,
        outage: Arc<Outage>,
    ) -> Self {
        Self {
            patience: watch::Sender::new(probe_timeout(&location)),
            location,
            file,
            server: AtomicUsize::new(server),
            outage,
            reachable: watch::Sender::new(true),
            fault: watch::Sender::new(false),
            served: AtomicU64::new(0),
            returned: watch::Sender::new(Instant::now()),
            clustered: AtomicBool::new(false),
        }
    }

    /// Which of the servers is used.
    pub(super) fn server(&self) -> usize {
        self.server.load(Ordering::Relaxed)
    }

    /// Complains at once while the database is away: waiting for connections would only pile calls up.
    pub(super) fn check(&self) -> Result<()> {
        if *self.reachable.borrow() {
            Ok(())
        } else {
            Err(Error::Unavailable(
                "the last probe didn't get through".into(),
            ))
        }
    }

    /// Complains if the database is a file that was moved away or replaced: what is written to it would be lost.
    pub(super) fn check_file(&self) -> Result<()> {
        let checked = self.file.as_ref().map_or(Ok(()), OpenFile::check);
        checked.map_err(|reason| {
            self.fault.send_replace(true);
            Error::Unavailable(reason.into())
        })
    }

    /// Does something that may wait for the database, but not longer than it is there, on the same server. A
    /// file doesn't go away: what is begun there is never cut off.
    pub(super) async fn while_there<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
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

    /// Has the database looked at if this is an error that may come from its being away.
    pub(super) fn note<T>(&self, result: &Result<T>) {
        match result {
            Err(Error::Unavailable(_) | Error::Uncertain(_)) => drop(self.fault.send_replace(true)),
            Err(Error::Overloaded(_)) => {}
            _ => drop(self.served.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Notes whether a probe got through.
    pub(super) fn tell(&self, reachable: bool) {
        let patience = if reachable {
            probe_timeout(&self.location)
        } else {
            self.outage.begin();
            MAX_PROBE_TIMEOUT.min(*self.patience.borrow() * 2)
        };
        self.patience.send_replace(patience);
        let before = self.reachable.send_replace(reachable);
        if reachable && !before {
            self.outage.end();
        }
    }
}

/// How long a probe may take while the database is there. A file has no other server to turn to, and no network between:
/// a look at it that is late tells of a busy machine.
fn probe_timeout(location: &Location) -> Duration {
    match location {
        Location::Sqlite(_) => MAX_PROBE_TIMEOUT,
        _ => PROBE_TIMEOUT,
    }
}
