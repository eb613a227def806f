//! The write queue: the write whose turn it is takes the others along in a batch.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::{batch, job::QueuedWrite};
use crate::{
    error::Result,
    store::{
        Db,
        admission_queue::{self, AdmissionQueue, QueueLimits},
    },
};

/// Maximum number of writes in a transaction: limits how long a write waits for the others in its batch.
const MAX_BATCH_SIZE: usize = 50;
/// The same while the queue rejects writes: admitted ones are answered sooner.
const OVERLOADED_BATCH_SIZE: usize = 16;

/// The queued writes.
pub(in crate::store) struct WriteQueue {
    line: Arc<AdmissionQueue>,
    waiting: Mutex<QueueState>,
    /// Held by the task that executes a batch.
    batch_lock: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct QueueState {
    entries: VecDeque<(EntryId, admission_queue::Ticket, Box<dyn QueuedWrite>)>,
    joined: u64,
}

/// Identifies a queued write.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryId(u64);

impl WriteQueue {
    /// An empty queue.
    pub(in crate::store) fn new(limits: QueueLimits) -> Self {
        Self {
            line: AdmissionQueue::new(limits, OVERLOADED_BATCH_SIZE),
            waiting: Mutex::default(),
            batch_lock: tokio::sync::Mutex::default(),
        }
    }

    /// Number of queued writes, and of those rejected so far.
    pub(in crate::store) fn counts(&self) -> (usize, u64) {
        self.line.counts()
    }

    /// Takes a place in the admission queue.
    ///
    /// # Errors
    /// `Overloaded` if too many writes wait.
    pub(super) fn enqueue(&self) -> Result<admission_queue::Ticket> {
        self.line.enqueue()
    }

    /// Adds a write for a ticket.
    pub(super) fn push(
        &self,
        ticket: admission_queue::Ticket,
        write: Box<dyn QueuedWrite>,
    ) -> EntryId {
        let mut waiting = self.waiting();
        waiting.joined += 1;
        let id = EntryId(waiting.joined);
        waiting.entries.push_back((id, ticket, write));
        id
    }

    /// Removes a write; false if its batch has already begun.
    pub(super) fn cancel(&self, id: EntryId) -> bool {
        let mut waiting = self.waiting();
        let found = waiting.entries.iter().position(|(other, ..)| *other == id);
        found.is_some_and(|index| waiting.entries.remove(index).is_some())
    }

    fn take_batch(&self) -> Vec<Box<dyn QueuedWrite>> {
        let most = if self.line.is_overloaded() {
            OVERLOADED_BATCH_SIZE
        } else {
            MAX_BATCH_SIZE
        };
        let mut waiting = self.waiting();
        let count = waiting.entries.len().min(most);
        waiting
            .entries
            .drain(..count)
            .map(|(.., write)| write)
            .collect()
    }

    fn waiting(&self) -> MutexGuard<'_, QueueState> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for WriteQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WriteQueue").finish_non_exhaustive()
    }
}

/// Waits for the batch lock, and executes the next batch. Each write calls this once; if another call has taken its
/// write along, there may be nothing left to do.
pub(super) async fn run_next_batch(db: &Db) {
    let _batch_lock = db.queue.batch_lock.lock().await;
    let entries = db.queue.take_batch();
    if !entries.is_empty() {
        // Boxed: most calls find nothing left to do and needn't carry the large future.
        Box::pin(batch::execute(db, entries)).await;
    }
}
