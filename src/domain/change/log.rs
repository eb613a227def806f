//! The log of a write.

use super::{Change, Timestamp};

/// The changes of a write, in order, and its time, which the written rows have, too.
#[derive(Debug)]
pub struct ChangeLog {
    time: Timestamp,
    changes: Vec<Change>,
}

impl ChangeLog {
    /// An empty log.
    #[must_use]
    pub fn new(time: Timestamp) -> Self {
        Self {
            time,
            changes: Vec::new(),
        }
    }

    /// The time of the write.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// Advances the time of the write to that of a row that it changes. Clocks differ: otherwise the row's
    /// `update_time` might be before its `create_time`.
    pub fn advance_to(&mut self, time: Timestamp) {
        self.time = self.time.max(time);
    }

    /// Adds a change.
    pub fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// The changes.
    #[must_use]
    pub fn into_changes(self) -> Vec<Change> {
        self.changes
    }
}

impl Extend<Change> for ChangeLog {
    fn extend<I: IntoIterator<Item = Change>>(&mut self, changes: I) {
        self.changes.extend(changes);
    }
}
