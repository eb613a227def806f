//! The tail of the feed, in memory, shared by all watchers that keep up.

use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use super::{MAX_BATCH_CHANGES, MAX_TAIL_CHANGES, Position, TAIL_READ_INTERVAL};
use crate::{
    domain::{ChangeFilter, RecordedChange},
    error::{Error, Result},
    store::{
        Db,
        change::{self, ChangeSlice},
    },
};

/// The latest changes, in order and without gaps: all after `start`, up to and including `end`.
#[derive(Debug)]
pub(super) struct Tail {
    changes: VecDeque<Arc<RecordedChange>>,
    start: Position,
    pub(super) end: Position,
    pub(super) read: Instant,
    /// The database's count of data losses when the tail was started.
    pub(super) data_losses: u64,
}

impl Tail {
    pub(super) fn starting_after(place: Position, data_losses: u64) -> Self {
        Self {
            data_losses,
            changes: VecDeque::new(),
            start: place,
            end: place,
            // Long enough ago that the tail can be extended at once.
            read: Instant::now()
                .checked_sub(TAIL_READ_INTERVAL)
                .unwrap_or_else(Instant::now),
        }
    }

    pub(super) async fn extend_from(&mut self, db: &Db) -> Result<()> {
        let everything = ChangeFilter::default();
        let slice = match change::read_after(db, self.end, &everything, MAX_TAIL_CHANGES).await {
            // The changes have expired while there were no watchers.
            Err(Error::RevisionCompacted { .. }) => {
                *self = Self::starting_after((db.revision(), i32::MAX), self.data_losses);
                return Ok(());
            }
            slice => slice?,
        };
        self.end = slice.position;
        self.read = Instant::now();
        self.changes.extend(slice.changes);
        while self.changes.len() > MAX_TAIL_CHANGES {
            if let Some(dropped) = self.changes.pop_front() {
                self.start = (dropped.revision, dropped.index);
            }
        }
        Ok(())
    }

    /// The matching changes after a position; `None` if the tail doesn't cover it.
    pub(super) fn after(&self, position: Position, filter: &ChangeFilter) -> Option<ChangeSlice> {
        if position < self.start || position > self.end {
            return None;
        }
        let place = |recorded: &RecordedChange| (recorded.revision, recorded.index);
        let first = self
            .changes
            .partition_point(|recorded| place(recorded) <= position);
        let mut changes = Vec::new();
        let mut at = position;
        for recorded in self.changes.range(first..) {
            if changes.len() == MAX_BATCH_CHANGES {
                let complete = std::cmp::min(recorded.revision.previous(), at.0);
                return Some(ChangeSlice {
                    changes,
                    position: at,
                    complete,
                });
            }
            at = place(recorded);
            if filter.matches(recorded) {
                changes.push(recorded.clone());
            }
        }
        let complete = if self.end.1 == i32::MAX {
            self.end.0
        } else {
            self.end.0.previous()
        };
        Some(ChangeSlice {
            changes,
            position: self.end,
            complete,
        })
    }
}
