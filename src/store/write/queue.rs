//! Writes wait for their turn in a queue, and whoever's turn it is takes all who wait along.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{batch, job::Work};
use crate::{
    error::Result,
    store::{
        Db,
        line::{self, Limits, Line},
    },
};

/// How many writes share a transaction at most: nobody waits for long for the others.
const BATCH: usize = 50;
/// The same while others are refused: those who aren't are answered sooner.
const CROWDED_BATCH: usize = 16;

/// Those who wait to write.
pub(in crate::store) struct Queue {
    line: Arc<Line>,
    waiting: Mutex<Waiting>,
    /// Held by the one whose turn it is.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Waiting {
    works: VecDeque<(Place, line::Place, Box<dyn Work>)>,
    joined: u64,
}

/// A place in the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(u64);

impl Queue {
    /// One in which nobody waits yet.
    pub(in crate::store) fn new(limits: Limits) -> Self {
        Self {
            line: Line::new(limits, CROWDED_BATCH),
            waiting: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// How many wait, and how many have been refused so far.
    pub(in crate::store) fn counts(&self) -> (usize, u64) {
        self.line.counts()
    }

    /// Takes a place in line.
    ///
    /// # Errors
    /// Too many wait.
    pub(super) fn join(&self) -> Result<line::Place> {
        self.line.join()
    }

    /// Says what is waited for there.
    pub(super) fn put(&self, in_line: line::Place, work: Box<dyn Work>) -> Place {
        let mut waiting = self.waiting();
        waiting.joined += 1;
        let place = Place(waiting.joined);
        waiting.works.push_back((place, in_line, work));
        place
    }

    /// Waits no longer; false if the turn has come.
    pub(super) fn leave(&self, place: Place) -> bool {
        let mut waiting = self.waiting();
        let found = waiting.works.iter().position(|(other, ..)| *other == place);
        found.is_some_and(|index| waiting.works.remove(index).is_some())
    }

    fn next(&self) -> Vec<Box<dyn Work>> {
        let most = if self.line.is_crowded() {
            CROWDED_BATCH
        } else {
            BATCH
        };
        let mut waiting = self.waiting();
        let count = waiting.works.len().min(most);
        waiting
            .works
            .drain(..count)
            .map(|(.., work)| work)
            .collect()
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
        // In a box of its own: most find nothing left to do, and needn't carry the room for it about.
        Box::pin(batch::carry_out(db, works)).await;
    }
}
