//! How the database is used.

use std::time::Duration;

use super::{line::Limits, location::Location};

/// How the database is used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the data is.
    pub location: Location,
    /// Where it can be read, too.
    pub replica: Option<Location>,
    /// How many connections there are for calls, at least two.
    pub connections: u32,
    /// How long a database is waited for that isn't there yet.
    pub connect_timeout: Duration,
    /// How many bytes are kept in memory, about; none if it is 0.
    pub cache_bytes: u64,
    /// How long a call may wait to be carried out while others wait all the time.
    pub queue_time: Duration,
    /// How old the state may be that a read is answered with, unless it is the primary's.
    pub max_staleness: Duration,
    /// How many calls may wait to be carried out, reads and writes each.
    pub max_queue: u32,
    /// Whether a database that isn't there yet is made.
    pub create: bool,
    /// Whether a SQLite file is locked, so that no other server opens it.
    pub exclusive: bool,
}

impl Settings {
    /// The usual settings for data at `location`.
    #[must_use]
    pub fn new(location: Location) -> Self {
        Self {
            location,
            replica: None,
            connections: 10,
            connect_timeout: Duration::from_secs(30),
            cache_bytes: 128 << 20,
            max_staleness: Duration::from_secs(2),
            queue_time: Duration::from_millis(3),
            max_queue: 1000,
            create: true,
            exclusive: false,
        }
    }

    /// Those who write come one after the other, so that few connections do for them.
    pub(super) fn writers(&self) -> u32 {
        (self.connections / 4).clamp(1, 4)
    }

    /// Those who read from the primary. What SQLite reads it reads in this process: more at once than there are cores
    /// would only take time from each other, and from all that is answered without it. With two, a caller's slow reads
    /// leave one to the others.
    pub(super) fn readers(&self) -> u32 {
        let readers = self.connections.saturating_sub(self.writers()).max(1);
        if !matches!(self.location, Location::Sqlite(_)) {
            return readers;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        readers.min(u32::try_from(cores.max(2)).unwrap_or(u32::MAX))
    }

    /// How many files and sockets are open for the database, at most.
    #[must_use]
    pub fn descriptors(&self) -> u64 {
        // Beside those of calls: for the probe, a look at another server, revisions that PostgreSQL tells of, changes and
        // tokens of other instances, and a migration.
        const FURTHER: u32 = 6;
        let (connections, files) = match self.location {
            // Readers have two pools. A connection opens the database, its log, and the log's index.
            Location::Sqlite(_) => (self.writers() + 2 * self.readers(), 3),
            _ => (self.connections, 1),
        };
        let replica = self.replica.as_ref().map_or(0, |_| self.connections + 1);
        u64::from(connections + FURTHER + replica) * files
    }

    /// Who may wait, and for how long.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            time: self.queue_time,
            many: self.max_queue,
        }
    }
}
