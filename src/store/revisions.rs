//! What this instance knows of the directory's revisions: the latest that is committed, when the primary was asked
//! for it, and the latest that a caller has been told of. From these follows how fresh an answer must be.

mod waiters;

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::Instant,
};

use tokio::sync::watch;

use self::waiters::Waiters;
use crate::{domain::Revision, error::Result};

/// How many looks are remembered: at the usual interval more than any staleness that is asked about.
const LOOKS: usize = 1024;

/// The revisions of a directory, as far as this instance knows them.
#[derive(Debug)]
pub(super) struct Revisions {
    committed: watch::Sender<Revision>,
    /// The latest revision that an answer or an acknowledgement named.
    answered: AtomicI64,
    /// When the primary was asked for its revision, and what it answered; the latest last. Each time was taken
    /// before the question was sent.
    looks: Mutex<VecDeque<(Instant, Revision)>>,
    waiters: Waiters,
}

impl Revisions {
    /// At a start, when the primary was asked at this time and had this revision. At most `max_waiting` calls may
    /// wait for a later one at once.
    pub(super) fn new(asked: Instant, committed: Revision, max_waiting: u32) -> Self {
        Self {
            committed: watch::Sender::new(committed),
            answered: AtomicI64::new(0),
            looks: Mutex::new(VecDeque::from([(asked, committed)])),
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
        // Committed it is, even if a later question was answered first.
        self.reach(revision);
        let mut looks = self.looks();
        if looks.back().is_some_and(|(latest, _)| *latest > asked) {
            return;
        }
        if looks.len() == LOOKS {
            looks.pop_front();
        }
        looks.push_back((asked, revision));
    }

    /// Notes that the database has lost every revision after this one, as it answered when it was asked at this time.
    pub(super) fn lost_after(&self, asked: Instant, revision: Revision) {
        let mut looks = self.looks();
        looks.clear();
        looks.push_back((asked, revision));
        drop(looks);
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
        let looks = self.looks();
        // Revisions only grow from one look to the next.
        let later = looks.partition_point(|(_, found)| *found <= revision);
        looks.get(later.checked_sub(1)?).map(|(asked, _)| *asked)
    }

    /// When the primary was last asked, and answered.
    pub(super) fn last_look(&self) -> Option<Instant> {
        self.looks().back().map(|(asked, _)| *asked)
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

    fn looks(&self) -> MutexGuard<'_, VecDeque<(Instant, Revision)>> {
        self.looks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
