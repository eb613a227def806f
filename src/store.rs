//! Queries and transactions, one module per resource.
//!
//! A read is a command that implements [`Read`]; [`read()`] chooses the state it reads from. A write is a command that
//! implements [`Write`]; [`write()`] executes it, and is the only place where a transaction for it begins and commits.
//! The differences between database engines are in `engine`.

pub mod access;
mod admission_queue;
pub mod backup;
mod cache;
mod caller_limiter;
mod caller_share;
pub mod change;
mod clock;
mod engine;
mod errors;
pub mod group;
mod health;
pub mod idempotency;
mod location;
pub mod member;
mod metrics;
mod notifications;
mod open;
mod outage;
mod page;
mod probe;
mod read;
mod replica;
mod revisions;
pub mod role;
mod schema;
mod search;
mod settings;
mod statements;
pub mod token;
pub mod user;
mod write;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::{DatabaseConnection, DatabaseTransaction, DbBackend};
use tokio::{sync::watch, time::timeout};

use crate::{
    domain::Revision,
    error::{Error, Result},
};

pub use cache::{CacheCounts, CacheSnapshot};
pub use caller_share::CallerKey;
pub(crate) use caller_share::CallerShares;
pub use location::Location;
pub use metrics::{PoolUsage, StatementMetrics};
pub use open::{Direction, OpenError, migrate, migrations};
pub use page::{AtRevision, Page};
pub use read::{HasRevision, Read, View, read};
pub use schema::Migration;
pub use settings::Settings;
pub use write::{IdempotencyKey, RequestContext, StoredResponse, Write, write};

/// The database: separate connection pools for writes, reads, synchronization and probes, and the state shared by all
/// calls.
#[derive(Clone, Debug)]
pub struct Db {
    writer: DatabaseConnection,
    reader: engine::ReadPool,
    /// For synchronization with other instances: changes and tokens. A separate pool, so that calls can't delay it.
    sync_pool: DatabaseConnection,
    /// A separate pool: an exhausted pool must not look like an unreachable database.
    prober: DatabaseConnection,
    replica: Option<Arc<replica::Replica>>,
    health: Arc<health::Health>,
    /// Prevents other servers from opening the SQLite file.
    lock: Arc<Mutex<Option<engine::sqlite::FileLock>>>,
    revisions: Arc<revisions::Revisions>,
    /// Maximum staleness of reads from the cache or the replica.
    max_staleness: Duration,
    /// Number of times that the database was found to have lost revisions.
    data_losses: Arc<watch::Sender<u64>>,
    writes: InFlightWrites,
    /// Number of transaction retries.
    retries: Arc<AtomicU64>,
    cache: Arc<cache::Cache>,
    clock: Arc<clock::Clock>,
    statements: StatementMetrics,
    queue: Arc<write::WriteQueue>,
}

/// How long a read waits for its `min_revision`.
const FRESHNESS_TIMEOUT: Duration = Duration::from_secs(5);

impl Db {
    /// The last revision known to be committed.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revisions.committed()
    }

    /// Staleness of responses that don't come from the primary: the time since the primary was asked for its revision
    /// and had no later one than the cache (without a cache: than the last known one).
    #[must_use]
    pub fn staleness(&self) -> Duration {
        let revision = if self.cache.is_enabled() {
            self.cache.applied_revision()
        } else {
            self.revision()
        };
        // For revisions older than all remembered observations.
        let long = Duration::from_secs(3600);
        let present = self.revisions.last_current_at(revision);
        present.map_or(long, |present| present.elapsed())
    }

    /// Whether this revision was the primary's latest less than `max_staleness` ago.
    fn is_fresh(&self, revision: Revision) -> bool {
        let present = self.revisions.last_current_at(revision);
        present.is_some_and(|present| present.elapsed() < self.max_staleness)
    }

    /// Notifies of each revision that becomes known to be committed.
    #[must_use]
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.revisions.subscribe()
    }

    /// Notifies when the database is found to have lost revisions.
    #[must_use]
    pub fn data_losses(&self) -> watch::Receiver<u64> {
        self.data_losses.subscribe()
    }

    /// Number of transaction retries since the start, because of conflicts with other transactions.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// Number of queued reads, and of reads rejected since the start because the queue was full.
    #[must_use]
    pub fn reads_queued(&self) -> (usize, u64) {
        self.reader.queue_counts()
    }

    /// Number of calls that wait for a revision, and of calls rejected since the start because too many waited.
    #[must_use]
    pub fn revision_waiters(&self) -> (usize, u64) {
        self.revisions.waiter_counts()
    }

    /// Number of queued writes, and of writes rejected since the start because the queue was full.
    #[must_use]
    pub fn writes_queued(&self) -> (usize, u64) {
        self.queue.counts()
    }

    /// Cache counters since the start.
    #[must_use]
    pub fn cache_counts(&self) -> CacheCounts {
        self.cache.counts(self.revision())
    }

    /// Records that a response with this revision is sent to a caller: no later response may reflect an earlier
    /// revision.
    pub(crate) fn record_returned(&self, revision: Revision) {
        self.revisions.record_returned(revision);
    }

    /// Waits until no write is in flight.
    pub async fn writes_drained(&self) {
        // The sender lives in `self`, so the channel can't be closed.
        let _ = self
            .writes
            .0
            .subscribe()
            .wait_for(|writes| *writes == 0)
            .await;
    }

    /// Records that a revision is committed.
    fn record_committed(&self, revision: Revision) {
        self.revisions.record_committed(revision);
    }

    /// Waits until `wanted` is known to be committed.
    ///
    /// # Errors
    /// `RevisionUnknown` if the database hasn't committed this revision within 5 seconds; `Unavailable` if the database
    /// couldn't be asked in that time; `Overloaded` if too many calls wait.
    async fn wait_for_revision(&self, wanted: Revision) -> Result<()> {
        if self.revision() >= wanted {
            return Ok(());
        }
        let begun = Instant::now();
        match timeout(FRESHNESS_TIMEOUT, self.revisions.wait_for(wanted)).await {
            Ok(result) => result,
            Err(_)
                if self
                    .revisions
                    .last_observed_at()
                    .is_some_and(|look| look >= begun) =>
            {
                Err(Error::RevisionUnknown {
                    present: self.revision(),
                })
            }
            // No observation since this call began to wait: a cluster node may lag behind, or the machine may be
            // overloaded.
            Err(_) => Err(Error::Unavailable(
                "it isn't known which revision there is".into(),
            )),
        }
    }

    /// Closes all connections, after their running statements.
    pub async fn close(self) {
        if let Some(replica) = &self.replica {
            replica.close().await;
        }
        let closed = if self.writer.get_database_backend() == DbBackend::Sqlite {
            // The last connection to close removes the write-ahead log, which read-only connections can't: the writer
            // closes last.
            self.prober
                .close()
                .await
                .and(self.sync_pool.close().await)
                .and(self.reader.close().await)
                .and(self.writer.close().await)
        } else {
            let (a, b, c, d) = tokio::join!(
                self.writer.close(),
                self.reader.close(),
                self.sync_pool.close(),
                self.prober.close()
            );
            a.and(b).and(c).and(d)
        };
        if let Err(error) = closed {
            tracing::warn!(error = %error, "closing the database failed");
        }
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(lock.take());
    }

    /// Waits for admission to a read-only transaction.
    async fn acquire_read(&self) -> Result<engine::ReadPermit> {
        self.health.check()?;
        self.reader.acquire(caller_limiter::ReadKind::Regular).await
    }

    /// Begins the read-only transaction, in which all statements see the same state.
    async fn snapshot<'a>(
        &self,
        permit: &'a mut engine::ReadPermit,
    ) -> Result<&'a DatabaseTransaction> {
        let snapshot = permit.snapshot().await;
        self.health.record_result(&snapshot);
        snapshot
    }
}

/// The number of writes in flight.
#[derive(Clone, Debug, Default)]
struct InFlightWrites(Arc<watch::Sender<usize>>);

impl InFlightWrites {
    /// Counts a write until the returned guard is dropped.
    fn begin(&self) -> impl Drop + use<> {
        struct End(InFlightWrites);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.0.send_modify(|writes| *writes -= 1);
            }
        }
        self.0.send_modify(|writes| *writes += 1);
        End(self.clone())
    }
}
