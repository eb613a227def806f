//! Calls that wait for a revision to be committed. Each is woken once, when that or a later revision is known to be
//! committed; none of them queries the database.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{oneshot, watch};

use crate::{
    domain::Revision,
    error::{Error, Result},
    store::CallerShares,
};

/// The wanted revision, and a number that distinguishes the calls that wait for the same one.
type Key = (Revision, u64);

#[derive(Debug)]
pub(super) struct Waiters {
    max: usize,
    waiting: Mutex<BTreeMap<Key, oneshot::Sender<()>>>,
    shares: CallerShares,
    count: watch::Sender<usize>,
    next: AtomicU64,
    refused: AtomicU64,
}

impl Waiters {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            waiting: Mutex::default(),
            shares: CallerShares::default(),
            count: watch::Sender::new(0),
            next: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Waits until [`Self::wake`] is called for `wanted` or a later revision, unless it is committed already.
    ///
    /// # Errors
    /// Too many calls wait already, in total or of this caller.
    pub(super) async fn wait(&self, wanted: Revision, committed: impl Fn() -> bool) -> Result<()> {
        let (wake, woken) = oneshot::channel();
        let key = (wanted, self.next.fetch_add(1, Ordering::Relaxed));
        let _share = {
            let mut waiting = self.waiting();
            // Checked under the lock: a commit that is recorded from now on wakes this call.
            if committed() {
                return Ok(());
            }
            let free = self.max.saturating_sub(waiting.len());
            let share = self.shares.take(free).filter(|_| free > 0);
            let Some(share) = share else {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(Error::Overloaded("too many wait for a revision".into()));
            };
            waiting.insert(key, wake);
            self.count.send_replace(waiting.len());
            share
        };
        let _registration = Registration(self, key);
        // The sender is dropped only after sending, or with `_registration`.
        let _ = woken.await;
        Ok(())
    }

    /// Wakes the calls that wait for this revision or an earlier one.
    pub(super) fn wake(&self, revision: Revision) {
        let mut waiting = self.waiting();
        let mut woken = false;
        while let Some(first) = waiting.first_entry()
            && first.key().0 <= revision
        {
            // A cancelled call needs no wake-up.
            let _ = first.remove().send(());
            woken = true;
        }
        if woken {
            self.count.send_replace(waiting.len());
        }
    }

    /// Waits until at least one call waits.
    pub(super) async fn wait_until_any(&self) {
        // The sender lives in `self`, so the channel can't be closed.
        let _ = self.count.subscribe().wait_for(|count| *count > 0).await;
    }

    /// How many calls wait, and how many have been rejected since the start.
    pub(super) fn counts(&self) -> (usize, u64) {
        let waiting = *self.count.borrow();
        (waiting, self.refused.load(Ordering::Relaxed))
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Key, oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Removes the waiting call when it ends or is cancelled.
struct Registration<'a>(&'a Waiters, Key);

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        let Self(waiters, key) = self;
        let mut waiting = waiters.waiting();
        if waiting.remove(key).is_some() {
            waiters.count.send_replace(waiting.len());
        }
    }
}
