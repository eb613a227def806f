//! What this instance knows of the directory's revisions: the latest that is committed, when the primary was asked
//! for it, and the latest that a caller has been told of. From these follows how fresh an answer must be.

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

/// How many looks are remembered, and how far apart they are at least: those of more than a minute, which is the most
/// that `--max-staleness` can be.
const LOOKS: usize = 1024;
const LOOK_DISTANCE: Duration = Duration::from_millis(64);

/// The revisions of a directory, as far as this instance knows them.
#[derive(Debug)]
pub(super) struct Revisions {
    committed: watch::Sender<Revision>,
    /// The latest revision that an answer or an acknowledgement named.
    answered: AtomicI64,
    /// When the primary was asked for its revision, and what it answered; the latest last. Each time was taken
    /// before the question was sent.
    looks: Mutex<Looks>,
    waiters: Waiters,
}

#[derive(Debug)]
struct Looks {
    found: VecDeque<(Instant, Revision)>,
    /// When the database was first asked for its present history: before, it may have had revisions that it lost.
    since: Instant,
}

impl Looks {
    fn since(asked: Instant, revision: Revision) -> Self {
        Self {
            found: VecDeque::from([(asked, revision)]),
            since: asked,
        }
    }

    fn push(&mut self, asked: Instant, revision: Revision) {
        let found = &mut self.found;
        // Without one that lies between others, a revision counts as present until an earlier time only.
        if let Some(before) = found.len().checked_sub(2)
            && found[before + 1].0.duration_since(found[before].0) < LOOK_DISTANCE
        {
            found.pop_back();
        }
        if found.len() == LOOKS {
            found.pop_front();
        }
        found.push_back((asked, revision));
    }
}

impl Revisions {
    /// At a start, when the primary was asked at this time and had this revision. At most `max_waiting` calls may
    /// wait for a later one at once.
    pub(super) fn new(asked: Instant, committed: Revision, max_waiting: u32) -> Self {
        Self {
            committed: watch::Sender::new(committed),
            answered: AtomicI64::new(0),
            looks: Mutex::new(Looks::since(asked, committed)),
            waiters: Waiters::new(max_waiting as usize),
        }
    }

    /// The latest revision that is known to be committed.
    pub(super) fn committed(&self) -> Revision {
        *self.committed.borrow()
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.committed.subscribe()
    }

    /// Notes that a revision is committed.
    pub(super) fn reach(&self, revision: Revision) {
        let newer = self.committed.send_if_modified(|known| {
            let newer = revision > *known;
            *known = std::cmp::max(revision, *known);
            newer
        });
        if newer {
            self.waiters.wake(revision);
        }
    }

    /// Notes what the primary answered when it was asked at this time.
    pub(super) fn looked(&self, asked: Instant, revision: Revision) {
        let mut looks = self.looks();
        if asked < looks.since {
            return;
        }
        // A later question may have been answered first, and a server of a cluster may be behind the others.
        let latest = looks.found.back();
        if latest.is_none_or(|(latest, found)| *latest <= asked && *found <= revision) {
            looks.push(asked, revision);
        }
        // Under the lock, so that a loss isn't noted between.
        self.reach(revision);
    }

    /// Notes that the database has lost every revision after this one, as it answered when it was asked at this time.
    pub(super) fn lost_after(&self, asked: Instant, revision: Revision) {
        let mut looks = self.looks();
        *looks = Looks::since(asked, revision);
        self.answered.store(revision.number(), Ordering::SeqCst);
        self.committed.send_replace(revision);
    }

    /// Notes that a caller is told of this revision. No later answer may reflect an earlier one.
    pub(super) fn answer(&self, revision: Revision) {
        // Nearly always it is no news: then nothing is written that other threads read.
        if self.answered.load(Ordering::SeqCst) < revision.number() {
            self.answered.fetch_max(revision.number(), Ordering::SeqCst);
        }
    }

    /// The earliest revision that an answer may reflect, so that answers of this instance never go back in time.
    pub(super) fn answered(&self) -> Revision {
        let answered = Revision::parse(self.answered.load(Ordering::SeqCst)).unwrap_or_default();
        // A read under way may have noted a revision that turned out to be lost.
        std::cmp::min(answered, self.committed())
    }

    /// The latest time at which no later revision than this one is known to have been committed; nothing if that is
    /// too long ago to be remembered.
    pub(super) fn present_at(&self, revision: Revision) -> Option<Instant> {
        let looks = &self.looks().found;
        // Revisions only grow from one look to the next.
        let later = looks.partition_point(|(_, found)| *found <= revision);
        looks.get(later.checked_sub(1)?).map(|(asked, _)| *asked)
    }

    /// When the primary was last asked, and answered.
    pub(super) fn last_look(&self) -> Option<Instant> {
        self.looks().found.back().map(|(asked, _)| *asked)
    }

    /// Waits until this revision is known to be committed.
    ///
    /// # Errors
    /// Too many calls wait already.
    pub(super) async fn wait_for(&self, wanted: Revision) -> Result<()> {
        let committed = || self.committed() >= wanted;
        self.waiters.wait(wanted, committed).await
    }

    /// Waits until a call waits for a revision.
    pub(super) async fn awaited(&self) {
        self.waiters.some().await;
    }

    /// How many calls wait for a revision, and how many were refused since the start because too many did.
    pub(super) fn waiting(&self) -> (usize, u64) {
        self.waiters.counts()
    }

    fn looks(&self) -> MutexGuard<'_, Looks> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
