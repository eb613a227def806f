//! Writes that share a transaction: one commit for all, but a revision for each, and each can fail alone.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, prelude::Uuid};
use tracing::Instrument;

use super::{begin, job::QueuedWrite};
use crate::{
    domain::{Revision, Timestamp},
    error::{Error, Result},
    store::{Db, cache::Invalidation, change, engine},
};

/// How long a transaction is retried after conflicts.
const RETRY_TIMEOUT: Duration = Duration::from_secs(4);
/// Maximum backoff between retries.
const MAX_BACKOFF: Duration = Duration::from_millis(100);

/// The writes that share a transaction, each with its outcome so far.
type WriteBatch = Vec<(Box<dyn QueuedWrite>, Result<()>)>;

/// Executes these writes in one transaction, and responds to each.
pub(super) async fn execute(db: &Db, batch: Vec<Box<dyn QueuedWrite>>) {
    let Some(span) = batch.first().map(|write| write.span().clone()) else {
        return;
    };
    let mut batch: WriteBatch = batch.into_iter().map(|write| (write, Ok(()))).collect();
    let result = run_with_retries(db, &mut batch).instrument(span).await;
    db.health.record_result(&result);
    for (write, outcome) in batch {
        match &result {
            Ok(()) => write.answer(outcome),
            Err(error) => write.answer(Err(error.clone_with_text_cause())),
        }
    }
}

async fn run_with_retries(db: &Db, batch: &mut WriteBatch) -> Result<()> {
    let begun = Instant::now();
    let mut backoff = Duration::from_millis(2);
    loop {
        match attempt(db, batch).await {
            // On SQLite the busy timeout has already waited for other processes.
            Err(Error::Conflict(cause))
                if db.writer.get_database_backend() != DbBackend::Sqlite
                    && begun.elapsed() < RETRY_TIMEOUT =>
            {
                db.retries.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(error = %cause, "others were in the way: the transaction is tried again");
                tokio::time::sleep(jitter(backoff)).await;
                backoff = MAX_BACKOFF.min(backoff * 2);
            }
            result => return result,
        }
    }
}

/// The changes of all writes of the batch, by revision.
struct BatchOutcome {
    changes: Vec<(Revision, Vec<Invalidation>)>,
    /// Whether there is anything to commit.
    writes: bool,
    /// The last revision: the current one if there is nothing to commit.
    last: Revision,
}

async fn attempt(db: &Db, batch: &mut WriteBatch) -> Result<()> {
    // Savepoints cost a round trip per write and are rarely needed, so the first attempt goes without. A write that is
    // alone needs none.
    let mut savepoints = SavepointMode::Off;
    loop {
        let tx = begin(db).await?;
        let now = db.clock.write_time();
        let done = match db
            .health
            .while_reachable(apply_all(&tx, batch, now, savepoints))
            .await
        {
            Ok(Some(done)) => done,
            Ok(None) => {
                roll_back(tx).await;
                savepoints = SavepointMode::PerWrite;
                continue;
            }
            Err(error) => {
                roll_back(tx).await;
                return Err(error);
            }
        };
        if !done.writes {
            // The rollback also returns the allocated revision.
            roll_back(tx).await;
            db.record_committed(done.last);
            db.revisions.record_returned(done.last);
            return Ok(());
        }
        commit(db, tx).await?;
        for (revision, changes) in done.changes {
            // Before the revision is announced to anyone.
            db.cache.invalidate(revision, &changes);
        }
        db.record_committed(done.last);
        db.revisions.record_returned(done.last);
        return Ok(());
    }
}

/// How the failure of a single write is isolated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SavepointMode {
    /// Not at all: if one of several writes fails, the whole batch is executed again with savepoints.
    Off,
    /// A savepoint before each write, to roll back to if it fails.
    PerWrite,
}

/// Executes the writes one after the other. `None` if one of several failed and there are no savepoints.
///
/// `now` is the time of all of them: times follow the order of revisions as far as clocks allow.
async fn apply_all(
    tx: &DatabaseTransaction,
    batch: &mut WriteBatch,
    now: Timestamp,
    savepoints: SavepointMode,
) -> Result<Option<BatchOutcome>> {
    let taken = engine::allocate_revision(tx, now).await?;
    let mut next = taken;
    let mut changed = Vec::new();
    let mut rows = Vec::new();
    let mut response_stored = false;
    let alone = batch.len() == 1;
    for (write, outcome) in batch {
        if savepoints == SavepointMode::PerWrite {
            tx.execute_unprepared("SAVEPOINT one_of_many").await?;
        }
        let span = write.span().clone();
        match write.attempt(tx, next, now).instrument(span).await {
            Ok(effects) => {
                *outcome = Ok(());
                response_stored |= effects.response_stored;
                if !effects.changes.is_empty() {
                    changed.push((next, effects.changes));
                    rows.extend(effects.rows);
                    next = next.next();
                }
            }
            Err(error) if aborts_transaction(&error) => return Err(error),
            Err(error) if alone => *outcome = Err(error),
            Err(_) if savepoints == SavepointMode::Off => return Ok(None),
            Err(error) => {
                *outcome = Err(error);
                tx.execute_unprepared("ROLLBACK TO SAVEPOINT one_of_many")
                    .await?;
            }
        }
    }
    let last = next.previous();
    let writes = !changed.is_empty() || response_stored;
    if writes {
        change::insert_changes(tx, rows, (last != taken).then_some(last)).await?;
    }
    Ok(Some(BatchOutcome {
        changes: changed,
        writes,
        last,
    }))
}

/// Whether an error affects the whole transaction, not only one write.
fn aborts_transaction(error: &Error) -> bool {
    matches!(
        error,
        Error::Conflict(_)
            | Error::Unavailable(_)
            | Error::CommitUnknown(_)
            | Error::Overloaded(_)
            | Error::ShuttingDown
    )
}

async fn commit(db: &Db, tx: DatabaseTransaction) -> Result<()> {
    let commit = async { Ok(db.statements.commit(tx).await?) };
    match db.health.while_reachable(commit).await {
        // The server may have gone away before or after the commit took effect. With SQLite the outcome is always
        // known.
        Err(Error::Unavailable(cause) | Error::Internal(cause))
            if db.writer.get_database_backend() != DbBackend::Sqlite =>
        {
            Err(Error::CommitUnknown(cause))
        }
        Ok(()) => match db.health.check_file() {
            // The commit went to a file that was moved away or replaced.
            Err(Error::Unavailable(cause)) => Err(Error::CommitUnknown(cause)),
            result => result,
        },
        result => result,
    }
}

async fn roll_back(tx: DatabaseTransaction) {
    if let Err(failed) = tx.rollback().await {
        // SQLite rolls back by itself after some errors, such as a full disk; and the connection may be lost.
        tracing::debug!(error = %failed, "nothing left to roll back");
    }
}

/// A random part of `backoff`, so that conflicting transactions don't retry at the same time.
fn jitter(backoff: Duration) -> Duration {
    let [.., random] = *Uuid::now_v7().as_bytes();
    backoff * (u32::from(random) + 1) / 256
}
