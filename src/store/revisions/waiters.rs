//! Calls that wait for a revision to be committed. Each is woken once, by the revision that it waits for; none of them
//! asks the database.

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
    store::Shares,
};

/// A revision, and a number that tells apart those that wait for the same one.
type Key = (Revision, u64);

#[derive(Debug)]
pub(super) struct Waiters {
    max: usize,
    waiting: Mutex<BTreeMap<Key, oneshot::Sender<()>>>,
    shares: Shares,
    count: watch::Sender<usize>,
    next: AtomicU64,
    refused: AtomicU64,
}

impl Waiters {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            waiting: Mutex::default(),
            shares: Shares::default(),
            count: watch::Sender::new(0),
            next: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Waits until `wanted` is woken, unless it is committed already.
    ///
    /// # Errors
    /// Too many wait already, or too many of this caller.
    pub(super) async fn wait(&self, wanted: Revision, committed: impl Fn() -> bool) -> Result<()> {
        let (wake, woken) = oneshot::channel();
        let key = (wanted, self.next.fetch_add(1, Ordering::Relaxed));
        let _share = {
            let mut waiting = self.waiting();
            // Under the lock: what is committed from now on wakes us.
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
        // The sender is dropped only when it is used, or by ourselves.
        let _ = woken.await;
        Ok(())
    }

    /// Wakes those that wait for this revision or an earlier one.
    pub(super) fn wake(&self, revision: Revision) {
        let mut waiting = self.waiting();
        let mut woken = false;
        while let Some(first) = waiting.first_entry()
            && first.key().0 <= revision
        {
            // One that has gone away needs no answer.
            let _ = first.remove().send(());
            woken = true;
        }
        if woken {
            self.count.send_replace(waiting.len());
        }
    }

    /// Waits until there is one that waits.
    pub(super) async fn some(&self) {
        // The sender lives in `self`, so the channel can't be closed.
        let _ = self.count.subscribe().wait_for(|count| *count > 0).await;
    }

    /// How many wait, and how many have been refused since the start.
    pub(super) fn counts(&self) -> (usize, u64) {
        let waiting = *self.count.borrow();
        (waiting, self.refused.load(Ordering::Relaxed))
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Key, oneshot::Sender<()>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends with the call that waits.
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
