//! Queries and transactions, a file a resource.
//!
//! A read is a command that implements [`Read`], and [`read()`] chooses the state that it reads from. A write is
//! a command that implements [`Write`], and [`write()`] carries it out: the one place where a transaction begins
//! and commits. What differs between the database engines stands in `engine`.

pub mod access;
pub mod backup;
mod cache;
pub mod change;
mod classify;
mod clock;
mod engine;
mod fair;
pub mod group;
mod health;
mod line;
mod listen;
mod location;
pub mod member;
mod open;
mod outage;
mod page;
mod probe;
mod read;
mod replica;
pub mod request;
mod revisions;
pub mod role;
mod row;
mod schema;
mod search;
mod settings;
mod share;
mod timing;
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

pub use cache::{CacheCounts, Glance};
pub use location::Location;
pub use open::{Direction, OpenError, migrate, migrations};
pub use page::{At, Page};
pub use read::{Read, Seen, View, read};
pub use schema::Migration;
pub use settings::Settings;
pub use share::CallerKey;
pub(crate) use share::Shares;
pub use timing::{Pool, Statements};
pub use write::{Once, Origin, Reply, Write, write};

/// The database: connections to write through, and connections to read through beside them.
#[derive(Clone, Debug)]
pub struct Db {
    writer: DatabaseConnection,
    reader: engine::Reader,
    /// For keeping up with other instances: changes, tokens. Apart from the others: calls must not hold it up.
    follower: DatabaseConnection,
    /// Apart from the others: a full pool is no dead database.
    prober: DatabaseConnection,
    replica: Option<Arc<replica::Replica>>,
    health: Arc<health::Health>,
    /// Keeps other servers from a SQLite file.
    lock: Arc<Mutex<Option<engine::sqlite::FileLock>>>,
    revisions: Arc<revisions::Revisions>,
    /// How old the state may be that a read is answered with, unless it is the primary's.
    max_staleness: Duration,
    /// How often it turned out to have lost revisions.
    losses: Arc<watch::Sender<u64>>,
    writes: UnderWay,
    /// How often a transaction was tried again.
    retries: Arc<AtomicU64>,
    cache: Arc<cache::Cache>,
    clock: Arc<clock::Clock>,
    statements: Statements,
    queue: Arc<write::Queue>,
}

/// How long a read waits for the revision that it asks for.
const FRESHNESS_TIMEOUT: Duration = Duration::from_secs(5);

impl Db {
    /// The last revision that is known to be committed.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revisions.committed()
    }

    /// How old the state is that answers are made of that don't come from the primary: how long ago the primary was
    /// asked for its revision and had no later one.
    #[must_use]
    pub fn staleness(&self) -> Duration {
        let revision = if self.cache.is_on() {
            self.cache.applied()
        } else {
            self.revision()
        };
        // Nothing is remembered for longer.
        let long = Duration::from_secs(3600);
        let present = self.revisions.present_at(revision);
        present.map_or(long, |present| present.elapsed())
    }

    /// Whether the state of this revision was the present one so short a time ago that it may be answered with.
    fn is_recent(&self, revision: Revision) -> bool {
        let present = self.revisions.present_at(revision);
        present.is_some_and(|present| present.elapsed() < self.max_staleness)
    }

    /// Tells of every revision that gets known to be committed.
    #[must_use]
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.revisions.subscribe()
    }

    /// Tells when the database turns out to have lost revisions.
    #[must_use]
    pub fn losses(&self) -> watch::Receiver<u64> {
        self.losses.subscribe()
    }

    /// How often transactions were tried again since the start, because others were in their way.
    #[must_use]
    pub fn retries(&self) -> u64 {
        self.retries.load(Ordering::Relaxed)
    }

    /// How many reads wait to be carried out, and how many were refused since the start because too many did.
    #[must_use]
    pub fn reads_queued(&self) -> (usize, u64) {
        self.reader.queued()
    }

    /// How many calls wait for a revision, and how many were refused since the start because too many did.
    #[must_use]
    pub fn revisions_awaited(&self) -> (usize, u64) {
        self.revisions.waiting()
    }

    /// How many writes wait to be carried out, and how many were refused since the start because too many did.
    #[must_use]
    pub fn writes_queued(&self) -> (usize, u64) {
        self.queue.counts()
    }

    /// What came of reads since the start, where something is kept in memory.
    #[must_use]
    pub fn cache_counts(&self) -> CacheCounts {
        self.cache.counts(self.revision())
    }

    /// Notes that a caller is told of this revision: no later answer reflects an earlier one.
    pub(crate) fn answered(&self, revision: Revision) {
        self.revisions.answer(revision);
    }

    /// Waits until no write is under way.
    pub async fn settled(&self) {
        // The sender lives in `self`, so the channel can't be closed.
        let _ = self
            .writes
            .0
            .subscribe()
            .wait_for(|writes| *writes == 0)
            .await;
    }

    /// Notes that a revision is committed.
    fn reach(&self, revision: Revision) {
        self.revisions.reach(revision);
    }

    /// Waits until it is known that `wanted` is committed.
    ///
    /// # Errors
    /// The directory hasn't given this revision, and doesn't in the next 5 seconds; or that can't be found out.
    async fn reached(&self, wanted: Revision) -> Result<()> {
        if self.revision() >= wanted {
            return Ok(());
        }
        let begun = Instant::now();
        match timeout(FRESHNESS_TIMEOUT, self.revisions.wait_for(wanted)).await {
            Ok(result) => result,
            Err(_) if self.revisions.last_look().is_some_and(|look| look >= begun) => {
                Err(Error::RevisionUnknown {
                    present: self.revision(),
                })
            }
            // A node may be behind its cluster, and a busy machine behind everything.
            Err(_) => Err(Error::Unavailable(
                "it isn't known which revision there is".into(),
            )),
        }
    }

    /// Closes every connection, after what is under way in them.
    pub async fn close(self) {
        if let Some(replica) = &self.replica {
            replica.close().await;
        }
        let closed = if self.writer.get_database_backend() == DbBackend::Sqlite {
            // The last one clears the log away, which readers may not.
            self.prober
                .close()
                .await
                .and(self.follower.close().await)
                .and(self.reader.close().await)
                .and(self.writer.close().await)
        } else {
            let (a, b, c, d) = tokio::join!(
                self.writer.close(),
                self.reader.close(),
                self.follower.close(),
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

    /// Waits to be admitted to a read-only transaction.
    async fn admitted(&self) -> Result<engine::Admitted> {
        self.health.check()?;
        self.reader.enter(fair::Kind::Other).await
    }

    /// Begins the transaction: every statement in it sees the same state.
    async fn snapshot<'a>(
        &self,
        admitted: &'a mut engine::Admitted,
    ) -> Result<&'a DatabaseTransaction> {
        let snapshot = admitted.snapshot().await;
        self.health.note(&snapshot);
        snapshot
    }
}

/// How many writes are under way.
#[derive(Clone, Debug, Default)]
struct UnderWay(Arc<watch::Sender<usize>>);

impl UnderWay {
    /// Counts a write until what is answered is dropped.
    fn begin(&self) -> impl Drop + use<> {
        struct End(UnderWay);
        impl Drop for End {
            fn drop(&mut self) {
                self.0.0.send_modify(|writes| *writes -= 1);
            }
        }
        self.0.send_modify(|writes| *writes += 1);
        End(self.clone())
    }
}
