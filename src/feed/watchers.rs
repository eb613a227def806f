//! The watchers of the feed, and the progress of each.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use super::Feed;
use crate::domain::Revision;

/// All watchers.
#[derive(Clone, Debug, Default)]
pub(super) struct Watchers(Arc<Mutex<WatcherTable>>);

#[derive(Debug, Default)]
struct WatcherTable {
    joined: u64,
    refused: u64,
    position: BTreeMap<u64, Arc<AtomicI64>>,
}

/// A watcher, registered until it is dropped.
#[derive(Debug)]
pub(super) struct Watcher {
    all: Watchers,
    number: u64,
    position: Arc<AtomicI64>,
}

impl Watchers {
    /// Registers a watcher that has all changes up to `from`.
    pub(super) fn join(&self, from: Revision) -> Watcher {
        let position = Arc::new(AtomicI64::new(from.number()));
        let mut table = self.table();
        table.joined += 1;
        let number = table.joined;
        table.position.insert(number, position.clone());
        drop(table);
        Watcher {
            all: self.clone(),
            number,
            position,
        }
    }

    /// Counts a rejected watcher.
    pub(super) fn refuse(&self) {
        self.table().refused += 1;
    }

    /// The number of watchers.
    pub(super) fn count(&self) -> usize {
        self.table().position.len()
    }

    /// The position of the slowest watcher.
    pub(super) fn slowest(&self) -> Option<i64> {
        let table = self.table();
        let position = table.position.values();
        position.map(|one| one.load(Ordering::Relaxed)).min()
    }

    fn table(&self) -> MutexGuard<'_, WatcherTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watcher {
    /// Records that all changes up to this revision have been sent.
    pub(super) fn advance(&self, revision: Revision) {
        self.position.store(revision.number(), Ordering::Relaxed);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.all.table().position.remove(&self.number);
    }
}

impl Feed {
    /// The number of watchers.
    #[must_use]
    pub fn watchers(&self) -> usize {
        self.watchers.count()
    }

    /// Number of watchers rejected so far because of the limit.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.watchers.table().refused
    }

    /// How many revisions the slowest watcher is behind.
    #[must_use]
    pub fn lag(&self) -> i64 {
        let present = self.db.revision().number();
        let lag = self.watchers.slowest().map(|slowest| present - slowest);
        lag.unwrap_or_default().max(0)
    }
}
