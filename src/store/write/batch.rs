//! Writes that share a transaction: one commit for all, a revision for each, and each fails alone.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, prelude::Uuid};
use tracing::Instrument;

use super::{begin, job::Work};
use crate::{
    domain::{Revision, Timestamp},
    error::{Error, Result},
    store::{Db, cache::Touched, change, engine},
};

/// A transaction that others are in the way of is tried again for as long.
const RETRY_TIME: Duration = Duration::from_secs(4);
/// How long it waits at most before it is tried again.
const MAX_PAUSE: Duration = Duration::from_millis(100);

/// Who shares a transaction, and what has become of each so far.
type Works = Vec<(Box<dyn Work>, Result<()>)>;

/// Carries all of these out, and answers each.
pub(super) async fn carry_out(db: &Db, works: Vec<Box<dyn Work>>) {
    let Some(span) = works.first().map(|work| work.span().clone()) else {
        return;
    };
    let mut works: Works = works.into_iter().map(|work| (work, Ok(()))).collect();
    let result = transact(db, &mut works).instrument(span).await;
    db.health.note(&result);
    for (work, outcome) in works {
        match &result {
            Ok(()) => work.answer(outcome),
            Err(error) => work.answer(Err(error.again())),
        }
    }
}

async fn transact(db: &Db, works: &mut Works) -> Result<()> {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        match attempt(db, works).await {
            // SQLite has waited for other processes already.
            Err(Error::Conflict(cause))
                if db.writer.get_database_backend() != DbBackend::Sqlite
                    && begun.elapsed() < RETRY_TIME =>
            {
                db.retries.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(error = %cause, "others were in the way: the transaction is tried again");
                tokio::time::sleep(jitter(pause)).await;
                pause = MAX_PAUSE.min(pause * 2);
            }
            result => return result,
        }
    }
}

/// What all of them have changed, with their revisions.
struct Done {
    changes: Vec<(Revision, Vec<Touched>)>,
    /// Whether there is anything to commit.
    writes: bool,
    /// The last revision: if there is nothing to commit, the one that was there before.
    last: Revision,
}

async fn attempt(db: &Db, works: &mut Works) -> Result<()> {
    // A savepoint each is a round trip each, and hardly ever needed. Whoever is alone needs none.
    let mut care = Care::None;
    loop {
        let tx = begin(db).await?;
        let now = db.clock.of_write();
        let done = match db.health.while_there(within(&tx, works, now, care)).await {
            Ok(Some(done)) => done,
            Ok(None) => {
                end(tx).await;
                care = Care::Savepoints;
                continue;
            }
            Err(error) => {
                end(tx).await;
                return Err(error);
            }
        };
        if !done.writes {
            // Nothing is written: not even the revision that was taken.
            end(tx).await;
            db.reach(done.last);
            db.revisions.answer(done.last);
            return Ok(());
        }
        commit(db, tx).await?;
        for (revision, changes) in done.changes {
            // Before anybody is told of it.
            db.cache.apply(revision, &changes);
        }
        db.reach(done.last);
        db.revisions.answer(done.last);
        return Ok(());
    }
}

/// What is done so that one can fail alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    /// Nothing: all of it is done again if one fails.
    None,
    /// What one has done can be undone.
    Savepoints,
}

/// Carries all of them out, one after the other. Nothing, if one of several failed that can't be undone alone.
///
/// `now` is the time of all of them: times are in the order of the revisions, as far as clocks allow.
async fn within(
    tx: &DatabaseTransaction,
    works: &mut Works,
    now: Timestamp,
    care: Care,
) -> Result<Option<Done>> {
    let taken = engine::take_revision(tx, now).await?;
    let mut next = taken;
    let mut changed = Vec::new();
    let mut rows = Vec::new();
    let mut kept = false;
    let alone = works.len() == 1;
    for (work, outcome) in works {
        if care == Care::Savepoints {
            tx.execute_unprepared("SAVEPOINT one_of_many").await?;
        }
        let span = work.span().clone();
        match work.attempt(tx, next, now).instrument(span).await {
            Ok(effects) => {
                *outcome = Ok(());
                kept |= effects.kept;
                if !effects.changes.is_empty() {
                    changed.push((next, effects.changes));
                    rows.extend(effects.rows);
                    next = next.next();
                }
            }
            Err(error) if is_everybodys(&error) => return Err(error),
            Err(error) if alone => *outcome = Err(error),
            Err(_) if care == Care::None => return Ok(None),
            Err(error) => {
                *outcome = Err(error);
                tx.execute_unprepared("ROLLBACK TO SAVEPOINT one_of_many")
                    .await?;
            }
        }
    }
    let last = next.previous();
    let writes = !changed.is_empty() || kept;
    if writes {
        change::record(tx, rows, (last != taken).then_some(last)).await?;
    }
    Ok(Some(Done {
        changes: changed,
        writes,
        last,
    }))
}

/// Whether an error is not of one write alone: it ends the transaction.
fn is_everybodys(error: &Error) -> bool {
    matches!(
        error,
        Error::Conflict(_)
            | Error::Unavailable(_)
            | Error::Uncertain(_)
            | Error::Overloaded(_)
            | Error::Stopping
    )
}

async fn commit(db: &Db, tx: DatabaseTransaction) -> Result<()> {
    let commit = async { Ok(db.statements.commit(tx).await?) };
    match db.health.while_there(commit).await {
        // The server may have gone away before the commit or behind it. A file tells which.
        Err(Error::Unavailable(cause) | Error::Internal(cause))
            if db.writer.get_database_backend() != DbBackend::Sqlite =>
        {
            Err(Error::Uncertain(cause))
        }
        Ok(()) => match db.health.check_file() {
            // What was committed went along with it.
            Err(Error::Unavailable(cause)) => Err(Error::Uncertain(cause)),
            result => result,
        },
        result => result,
    }
}

async fn end(tx: DatabaseTransaction) {
    if let Err(failed) = tx.rollback().await {
        // SQLite has rolled back by itself after some errors, a full disk among them; and the connection
        // may be lost.
        tracing::debug!(error = %failed, "nothing left to roll back");
    }
}

/// Some part of `pause`, so that those who got in each other's way don't meet again.
fn jitter(pause: Duration) -> Duration {
    let [.., random] = *Uuid::now_v7().as_bytes();
    pause * (u32::from(random) + 1) / 256
}
