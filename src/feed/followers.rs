//! Who follows, and how far each has come.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use super::Feed;
use crate::domain::Revision;

/// All who follow.
#[derive(Clone, Debug, Default)]
pub(super) struct Followers(Arc<Mutex<Present>>);

#[derive(Debug, Default)]
struct Present {
    joined: u64,
    refused: u64,
    reached: BTreeMap<u64, Arc<AtomicI64>>,
}

/// One who follows, until it is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    all: Followers,
    number: u64,
    reached: Arc<AtomicI64>,
}

impl Followers {
    /// Another follows, who knows everything up to a revision.
    pub(super) fn join(&self, from: Revision) -> Follower {
        let reached = Arc::new(AtomicI64::new(from.number()));
        let mut present = self.present();
        present.joined += 1;
        let number = present.joined;
        present.reached.insert(number, reached.clone());
        drop(present);
        Follower {
            all: self.clone(),
            number,
            reached,
        }
    }

    /// One more can't follow.
    pub(super) fn refuse(&self) {
        self.present().refused += 1;
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.present().reached.len()
    }

    /// How far the slowest has come.
    pub(super) fn slowest(&self) -> Option<i64> {
        let present = self.present();
        let reached = present.reached.values();
        reached.map(|one| one.load(Ordering::Relaxed)).min()
    }

    fn present(&self) -> MutexGuard<'_, Present> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower {
    /// Everything up to this revision has been taken.
    pub(super) fn reach(&self, revision: Revision) {
        self.reached.store(revision.number(), Ordering::Relaxed);
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.all.present().reached.remove(&self.number);
    }
}

impl Feed {
    /// How many follow.
    #[must_use]
    pub fn followers(&self) -> usize {
        self.followers.count()
    }

    /// How many were refused so far, because as many followed as may.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.followers.present().refused
    }

    /// How many revisions the slowest follower is behind.
    #[must_use]
    pub fn lag(&self) -> i64 {
        let present = self.db.revision().number();
        let lag = self.followers.slowest().map(|slowest| present - slowest);
        lag.unwrap_or_default().max(0)
    }
}
