//! What this instance knows of the directory's revisions: the latest that is known to be committed, when the primary
//! reported which one, and the latest that a caller was given. These determine how fresh a response must be.

mod waiters;

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use self::waiters::Waiters;
use crate::{domain::Revision, error::Result};

/// How many observations are kept, and how far apart they are at least: together they cover more than a minute, the
/// maximum of `--max-staleness`.
const MAX_OBSERVATIONS: usize = 1024;
const MIN_OBSERVATION_GAP: Duration = Duration::from_millis(64);

/// The revisions of a directory, as far as this instance knows them.
#[derive(Debug)]
pub(super) struct Revisions {
    committed: watch::Sender<Revision>,
    /// The latest revision that a response to a read or a write has reflected.
    latest_returned: AtomicI64,
    /// When the primary was asked for its revision, and the revision it returned; the latest last. Each time was taken
    /// before the request was sent.
    observations: Mutex<Observations>,
    waiters: Waiters,
}

#[derive(Debug)]
struct Observations {
    found: VecDeque<(Instant, Revision)>,
    /// When the database was first asked after start-up or its last loss; before, it may have had revisions that are
    /// lost now.
    since: Instant,
}

impl Observations {
    fn starting_at(asked: Instant, revision: Revision) -> Self {
        Self {
            found: VecDeque::from([(asked, revision)]),
            since: asked,
        }
    }

    fn push(&mut self, asked: Instant, revision: Revision) {
        let found = &mut self.found;
        // Dropping an observation between two others is safe: a revision then counts as current until an earlier time.
        if let Some(before) = found.len().checked_sub(2)
            && found[before + 1].0.duration_since(found[before].0) < MIN_OBSERVATION_GAP
        {
            found.pop_back();
        }
        if found.len() == MAX_OBSERVATIONS {
            found.pop_front();
        }
        found.push_back((asked, revision));
    }
}

impl Revisions {
    /// The state at start-up, when the primary was asked at `asked` and returned `committed`. At most `max_waiting`
    /// calls may wait for a later revision at once.
    pub(super) fn new(asked: Instant, committed: Revision, max_waiting: u32) -> Self {
        Self {
            committed: watch::Sender::new(committed),
            latest_returned: AtomicI64::new(0),
            observations: Mutex::new(Observations::starting_at(asked, committed)),
            waiters: Waiters::new(max_waiting as usize),
        }
    }

    /// The latest revision known to be committed.
    pub(super) fn committed(&self) -> Revision {
        *self.committed.borrow()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.committed.subscribe()
    }

    /// Records that a revision is committed, and wakes the calls that wait for it.
    pub(super) fn record_committed(&self, revision: Revision) {
        let newer = self.committed.send_if_modified(|known| {
            let newer = revision > *known;
            *known = std::cmp::max(revision, *known);
            newer
        });
        if newer {
            self.waiters.wake(revision);
        }
    }

    /// Records the revision that the primary returned when it was asked at `asked`.
    pub(super) fn record_observation(&self, asked: Instant, revision: Revision) {
        let mut observations = self.observations();
        if asked < observations.since {
            return;
        }
        // Responses may arrive out of order, and a server of a cluster may be behind the others.
        let latest = observations.found.back();
        if latest.is_none_or(|(latest, found)| *latest <= asked && *found <= revision) {
            observations.push(asked, revision);
        }
        // Under the lock, so that no loss is recorded in between.
        self.record_committed(revision);
    }

    /// Records that the database has lost every revision after this one, which it returned when asked at `asked`.
    pub(super) fn record_loss(&self, asked: Instant, revision: Revision) {
        let mut observations = self.observations();
        *observations = Observations::starting_at(asked, revision);
        self.latest_returned
            .store(revision.number(), Ordering::SeqCst);
        self.committed.send_replace(revision);
    }

    /// Records that a response reflects this revision. No later response may reflect an earlier one.
    pub(super) fn record_returned(&self, revision: Revision) {
        // Usually the revision isn't newer. Then a load is enough, and doesn't contend with other threads.
        if self.latest_returned.load(Ordering::SeqCst) < revision.number() {
            self.latest_returned
                .fetch_max(revision.number(), Ordering::SeqCst);
        }
    }

    /// The earliest revision that a response may reflect, so that responses of this instance never go back in time.
    pub(super) fn latest_returned(&self) -> Revision {
        let latest_returned =
            Revision::parse(self.latest_returned.load(Ordering::SeqCst)).unwrap_or_default();
        // A read in progress may have recorded a revision that the database has lost meanwhile.
        std::cmp::min(latest_returned, self.committed())
    }

    /// The latest time at which the primary is known to have had no later revision than this one; `None` if that is too
    /// long ago to be remembered.
    pub(super) fn last_current_at(&self, revision: Revision) -> Option<Instant> {
        let observations = &self.observations().found;
        // Revisions never decrease from one observation to the next.
        let later = observations.partition_point(|(_, found)| *found <= revision);
        observations
            .get(later.checked_sub(1)?)
            .map(|(asked, _)| *asked)
    }

    /// When the latest request for the primary's revision was sent that it has answered.
    pub(super) fn last_observed_at(&self) -> Option<Instant> {
        self.observations().found.back().map(|(asked, _)| *asked)
    }

    /// Waits until this revision is known to be committed.
    ///
    /// # Errors
    /// Too many calls wait already, in total or of this caller.
    pub(super) async fn wait_for(&self, wanted: Revision) -> Result<()> {
        let committed = || self.committed() >= wanted;
        self.waiters.wait(wanted, committed).await
    }

    /// Waits until at least one call waits for a revision.
    pub(super) async fn wait_for_waiter(&self) {
        self.waiters.wait_until_any().await;
    }

    /// How many calls wait for a revision, and how many have been rejected since the start because too many did.
    pub(super) fn waiter_counts(&self) -> (usize, u64) {
        self.waiters.counts()
    }

    fn observations(&self) -> MutexGuard<'_, Observations> {
        self.observations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
