//! The read path: which state a read sees, and whether it comes from the cache, the replica or the primary.

mod replica;

use std::{
    future::Future,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    time::{Duration, Instant},
};

use sea_orm::DatabaseExecutor;

use self::replica::read_replica;
use super::{
    AtRevision, CacheSnapshot, Db, FRESHNESS_TIMEOUT, Page,
    caller_limiter::ReadKind,
    change,
    engine::{ReadPermit, ReadPool},
};
use crate::{
    domain::Revision,
    error::{Error, Result},
};

/// How many times a read tries the cache while changes are being applied to it.
const CACHE_ATTEMPTS: usize = 3;
/// Delay before a read is retried that found an earlier revision than it must.
const LAG_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// A command that reads the directory.
pub trait Read: Clone + Send + Sync + 'static {
    /// What the command returns.
    type Output: HasRevision + Send + 'static;

    /// Whether each of its statements reports the revision that it saw (`View::observe_revision`). Then they need no
    /// transaction as long as they all saw the same revision, which saves `BEGIN` and `COMMIT`.
    const REPORTS_REVISION: bool = false;

    /// Whether the command can be run on the cache.
    const CACHEABLE: bool = false;

    /// The earliest revision that the result may reflect.
    fn min_revision(&self) -> Revision;

    /// Whether it may scan a whole table, because of what the caller asks for.
    fn searches(&self) -> bool {
        false
    }

    /// Runs the command on the cache; `None` if that is impossible and the database must be read.
    ///
    /// # Errors
    /// Missing entries can't be loaded.
    fn read_cached(
        &self,
        cached: &CacheSnapshot<'_>,
    ) -> impl Future<Output = Result<Option<Self::Output>>> + Send {
        let _ = cached;
        std::future::ready(Ok(None))
    }

    /// Runs the command on a state.
    ///
    /// # Errors
    /// The command fails, or the database is unavailable.
    fn read(&self, view: &View<'_>) -> impl Future<Output = Result<Self::Output>> + Send;
}

/// A result that names the revision that it reflects.
pub trait HasRevision {
    /// The revision that it reflects.
    fn revision(&self) -> Revision;
}

impl<T> HasRevision for AtRevision<T> {
    fn revision(&self) -> Revision {
        self.revision
    }
}

impl<T> HasRevision for Page<T> {
    fn revision(&self) -> Revision {
        self.revision
    }
}

/// A state of the directory: a snapshot, or the result of single statements, which see one state as long as nobody
/// writes between them.
#[derive(Debug)]
pub struct View<'a> {
    db: DatabaseExecutor<'a>,
    revision: AtomicI64,
    inconsistent: AtomicBool,
}

impl<'a> View<'a> {
    fn new(db: impl Into<DatabaseExecutor<'a>>, revision: Revision) -> Self {
        Self {
            db: db.into(),
            revision: AtomicI64::new(revision.number()),
            inconsistent: AtomicBool::new(false),
        }
    }

    /// The executor of statements.
    pub(super) fn db(&self) -> &DatabaseExecutor<'a> {
        &self.db
    }

    /// Records the revision that a statement saw.
    pub(super) fn observe_revision(&self, revision: Revision) {
        let before = self.revision.swap(revision.number(), Ordering::Relaxed);
        if before != 0 && before != revision.number() {
            self.mark_inconsistent();
        }
    }

    /// Records that statements may have seen different revisions, or that one couldn't report its own. In a snapshot
    /// this has no effect.
    pub(super) fn mark_inconsistent(&self) {
        self.inconsistent.store(true, Ordering::Relaxed);
    }

    /// The revision of this state.
    pub(super) fn revision(&self) -> Revision {
        Revision::parse(self.revision.load(Ordering::Relaxed)).unwrap_or_default()
    }
}

/// Runs a read on the cache, the replica or the primary: the first of these whose state is
/// - no older than the caller requests (`min_revision`),
/// - no older than any that this instance has returned or acknowledged before,
/// - the latest one, or one that was the latest at most `--max-staleness` ago.
///
/// # Errors
/// The command fails, the directory has never allocated `min_revision`, or the database is unavailable.
pub async fn read<R: Read>(db: &Db, command: &R) -> Result<R::Output> {
    let wanted = std::cmp::max(command.min_revision(), db.revisions.latest_returned());
    if R::CACHEABLE && db.cache.is_enabled() {
        if let Some(output) = read_cached(db, command, wanted).await {
            db.cache.counts.hits.fetch_add(1, Ordering::Relaxed);
            db.revisions.record_returned(output.revision());
            return Ok(output);
        }
        db.cache.counts.misses.fetch_add(1, Ordering::Relaxed);
    }
    // Boxed, so that the future of a cache hit doesn't contain this larger one.
    let (result, seen) = Box::pin(read_database(db, command, wanted)).await?;
    // An error, too, reveals what exists as of this revision.
    db.revisions.record_returned(seen);
    result
}

/// Runs a read on the replica or the primary; returns its result and the revision that it saw.
async fn read_database<R: Read>(
    db: &Db,
    command: &R,
    wanted: Revision,
) -> Result<(Result<R::Output>, Revision)> {
    if let Some(replica) = db
        .replica
        .as_deref()
        .filter(|replica| replica.is_usable(db, wanted))
        && let Some(answer) = read_replica(db, replica, command, wanted).await
    {
        return Ok(answer);
    }
    db.health
        .while_reachable(db.wait_for_revision(wanted))
        .await?;
    let begun = Instant::now();
    loop {
        let read = async {
            Ok(match db.reader.acquire(read_kind(command)).await {
                Ok(permit) => attempt(&db.reader, permit, command, wanted).await,
                Err(error) => (Err(error), Revision::NONE),
            })
        };
        let (result, seen) = db.health.while_reachable(read).await?;
        db.health.record_result(&result);
        match result {
            Err(error @ (Error::Unavailable(_) | Error::Overloaded(_) | Error::Internal(_))) => {
                return Err(error);
            }
            result if seen >= wanted => {
                db.record_committed(seen);
                return Ok((result, seen));
            }
            // The wanted revision is committed, but not on this server yet.
            _ if begun.elapsed() < FRESHNESS_TIMEOUT => {
                tokio::time::sleep(LAG_RETRY_INTERVAL).await
            }
            _ => {
                return Err(Error::Unavailable(
                    "the server that is read from is behind".into(),
                ));
            }
        }
    }
}

/// Runs a read on the cache; `None` if the cache isn't fresh enough, lacks something, or can't be loaded: then the
/// database is read.
async fn read_cached<R: Read>(db: &Db, command: &R, wanted: Revision) -> Option<R::Output> {
    for _ in 0..CACHE_ATTEMPTS {
        db.health.check().ok()?;
        let cached = CacheSnapshot::open(db)?;
        let present = db.revisions.last_current_at(cached.revision())?;
        // Checked before and after: loading entries may take long, or the process may be stopped meanwhile.
        let recent = || present.elapsed() < db.max_staleness;
        if !recent() {
            return None;
        }
        if cached.revision() >= wanted {
            match command.read_cached(&cached).await {
                Ok(Some(output)) if cached.is_valid() && recent() => return Some(output),
                // An entry is newer than the snapshot: the changes up to its revision will be applied soon.
                Ok(None) if cached.found_newer() => {}
                Ok(_) | Err(_) => return None,
            }
        }
        tokio::task::yield_now().await;
    }
    None
}

/// Whether the error is the outcome of the command rather than a failure of the connection or the database.
fn is_command_outcome(error: &Error) -> bool {
    !matches!(
        error,
        Error::Conflict(_) | Error::Overloaded(_) | Error::Unavailable(_) | Error::Internal(_)
    )
}

fn read_kind<R: Read>(command: &R) -> ReadKind {
    if command.searches() {
        ReadKind::Search
    } else {
        ReadKind::Regular
    }
}

/// Runs a read once; returns its result and the revision that it saw.
async fn attempt<R: Read>(
    reader: &ReadPool,
    permit: ReadPermit,
    command: &R,
    wanted: Revision,
) -> (Result<R::Output>, Revision) {
    let command = command.clone();
    let read = async move { read_with_permit(permit, &command, wanted).await };
    match reader.run_to_completion(read).await {
        Ok(read) => read,
        Err(error) => (Err(error), Revision::NONE),
    }
}

async fn read_with_permit<R: Read>(
    mut permit: ReadPermit,
    command: &R,
    wanted: Revision,
) -> (Result<R::Output>, Revision) {
    if R::REPORTS_REVISION {
        let db = match permit.executor().await {
            Ok(db) => db,
            Err(error) => return (Err(error.into()), Revision::NONE),
        };
        let view = View::new(db, Revision::NONE);
        let result = command.read(&view).await;
        let seen = view.revision();
        let stale = result.is_err() && seen < wanted;
        let inconsistent = view.inconsistent.load(Ordering::Relaxed) || stale;
        drop(view);
        if result.as_ref().err().is_none_or(is_command_outcome) {
            permit.mark_clean();
        }
        match &result {
            Err(Error::Unavailable(_) | Error::Overloaded(_)) => return (result, seen),
            _ if !inconsistent => return (result, seen),
            _ => {}
        }
    }
    let mut seen = Revision::NONE;
    let within = async {
        let snapshot = permit.snapshot().await?;
        seen = change::read_directory(snapshot).await?.revision;
        command.read(&View::new(snapshot, seen)).await
    };
    let result = within.await;
    if result.as_ref().err().is_none_or(is_command_outcome) {
        permit.mark_clean();
    }
    (result, seen)
}
