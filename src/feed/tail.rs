//! The tail of the feed, in memory, shared by all that keep up.

use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use super::{BATCH, Position, TAIL, TAIL_PACE};
use crate::{
    domain::{ChangeFilter, Recorded},
    error::{Error, Result},
    store::{
        Db,
        change::{self, Slice},
    },
};

/// The last changes, in order and without gaps: all that are behind `start`, up to and with `end`.
#[derive(Debug)]
pub(super) struct Tail {
    changes: VecDeque<Arc<Recorded>>,
    start: Position,
    pub(super) end: Position,
    pub(super) read: Instant,
    /// How often the database had lost revisions when it was begun.
    pub(super) losses: u64,
}

impl Tail {
    pub(super) fn behind(place: Position, losses: u64) -> Self {
        Self {
            losses,
            changes: VecDeque::new(),
            start: place,
            end: place,
            // Long ago, so that it can be read on at once.
            read: Instant::now()
                .checked_sub(TAIL_PACE)
                .unwrap_or_else(Instant::now),
        }
    }

    pub(super) async fn read_on(&mut self, db: &Db) -> Result<()> {
        let everything = ChangeFilter::default();
        let slice = match change::after(db, self.end, &everything, TAIL).await {
            // It has expired while nobody followed.
            Err(Error::RevisionCompacted { .. }) => {
                *self = Self::behind((db.revision(), i32::MAX), self.losses);
                return Ok(());
            }
            slice => slice?,
        };
        self.end = slice.position;
        self.read = Instant::now();
        self.changes.extend(slice.changes);
        while self.changes.len() > TAIL {
            if let Some(dropped) = self.changes.pop_front() {
                self.start = (dropped.revision, dropped.index);
            }
        }
        Ok(())
    }

    /// The wanted changes behind a place, if the tail reaches back as far.
    pub(super) fn after(&self, position: Position, filter: &ChangeFilter) -> Option<Slice> {
        if position < self.start || position > self.end {
            return None;
        }
        let place = |recorded: &Recorded| (recorded.revision, recorded.index);
        let first = self
            .changes
            .partition_point(|recorded| place(recorded) <= position);
        let mut changes = Vec::new();
        let mut at = position;
        for recorded in self.changes.range(first..) {
            if changes.len() == BATCH {
                let complete = std::cmp::min(recorded.revision.previous(), at.0);
                return Some(Slice {
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
        Some(Slice {
            changes,
            position: self.end,
            complete,
        })
    }
}
