//! Settings of the database.

use std::time::Duration;

use super::{admission_queue::QueueLimits, location::Location};

/// Settings of the database.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The database's location.
    pub location: Location,
    /// The read replica's location.
    pub replica: Option<Location>,
    /// Maximum number of connections for calls, at least two.
    pub connections: u32,
    /// How long to wait at the start for a database that isn't reachable yet.
    pub connect_timeout: Duration,
    /// Approximate size limit of the cache in bytes; 0 disables it.
    pub cache_bytes: u64,
    /// Maximum queueing time while the queue is never empty.
    pub queue_time: Duration,
    /// Maximum staleness of reads from the cache or the replica.
    pub max_staleness: Duration,
    /// Maximum number of queued calls, for reads and writes each.
    pub max_queue: u32,
    /// Whether to create the database if it doesn't exist.
    pub create: bool,
    /// Whether to lock a SQLite file, so that no other server opens it.
    pub exclusive: bool,
}

impl Settings {
    /// The default settings for a database at `location`.
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

    /// Number of connections for writes. Write transactions run one after the other, so few are needed.
    pub(super) fn writers(&self) -> u32 {
        (self.connections / 4).clamp(1, 4)
    }

    /// Number of connections for reads from the primary. SQLite executes reads in this process: more of them than cores
    /// would only compete for CPU time with each other and with cache hits. There are at least two, so that one
    /// caller's slow reads leave one to the others.
    pub(super) fn readers(&self) -> u32 {
        let readers = self.connections.saturating_sub(self.writers()).max(1);
        if !matches!(self.location, Location::Sqlite(_)) {
            return readers;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        readers.min(u32::try_from(cores.max(2)).unwrap_or(u32::MAX))
    }

    /// Maximum number of files and sockets that are open for the database.
    #[must_use]
    pub fn descriptors(&self) -> u64 {
        // In addition to those for calls: the probe, a probe of another server, PostgreSQL notifications, the
        // synchronization of changes and tokens (two), and a migration.
        const FURTHER: u32 = 6;
        let (connections, files) = match self.location {
            // Each SQLite reader has two connections. A connection opens three files: the database, its write-ahead
            // log, and the log's index.
            Location::Sqlite(_) => (self.writers() + 2 * self.readers(), 3),
            _ => (self.connections, 1),
        };
        let replica = self.replica.as_ref().map_or(0, |_| self.connections + 1);
        u64::from(connections + FURTHER + replica) * files
    }

    /// The limits of the read and write queues.
    pub(super) fn limits(&self) -> QueueLimits {
        QueueLimits {
            max_wait: self.queue_time,
            max_waiting: self.max_queue,
        }
    }
}
