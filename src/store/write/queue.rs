//! Writes wait for their turn in a queue, and whoever's turn it is takes all who wait along.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{batch, job::Work};
use crate::store::Db;

/// How many writes share a transaction at most: a savepoint each, and nobody waits for long for the others.
const BATCH: usize = 50;

/// Those who wait to write.
#[derive(Default)]
pub(in crate::store) struct Queue {
    waiting: Mutex<Waiting>,
    /// Held by the one whose turn it is.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Waiting {
    works: VecDeque<(Place, Box<dyn Work>)>,
    joined: u64,
}

/// A place in the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u64);

impl Queue {
    /// Waits from now on.
    pub(super) fn join(&self, work: Box<dyn Work>) -> Place {
        let mut waiting = self.waiting();
        waiting.joined += 1;
        let place = Place(waiting.joined);
        waiting.works.push_back((place, work));
        place
    }

    /// Waits no longer; false if the turn has come.
    pub(super) fn leave(&self, place: Place) -> bool {
        let mut waiting = self.waiting();
        let found = waiting.works.iter().position(|(other, _)| *other == place);
        found.is_some_and(|index| waiting.works.remove(index).is_some())
    }

    fn next(&self) -> Vec<Box<dyn Work>> {
        let mut waiting = self.waiting();
        let count = waiting.works.len().min(BATCH);
        waiting.works.drain(..count).map(|(_, work)| work).collect()
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

/// Waits until it is one's turn, and carries out all that waits. Every write takes a turn of its own; whose work was
/// taken along by another finds nothing left to do.
pub(super) async fn take_turn(db: &Db) {
    let _turn = db.queue.turn.lock().await;
    let works = db.queue.next();
    if !works.is_empty() {
        batch::carry_out(db, works).await;
    }
}
