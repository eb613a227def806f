//! The write path: every change to the directory goes through [`write()`].

use std::{
    future::Future,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use sea_orm::{
    DatabaseTransaction, DbBackend, SqliteTransactionMode, TransactionOptions, TransactionTrait,
    prelude::Uuid,
};
use tracing::Instrument;

use super::{Db, change, engine, request};
use crate::{
    domain::{Actor, Change, RequestId, Revision, Timestamp},
    error::{Error, Result},
};

/// A command that changes the directory.
pub trait Write: Send + Sync + 'static {
    /// What the command answers with.
    type Output: Send + 'static;

    /// Carries the command out within `tx`, and tells what it changes, in order. Takes `&self`, so that it can
    /// be carried out again in a new transaction where an engine asks for that.
    ///
    /// # Errors
    /// Whatever the command fails with; nothing of it is kept then.
    fn apply(
        &self,
        tx: &DatabaseTransaction,
        changes: &mut Vec<Change>,
    ) -> impl Future<Output = Result<Self::Output>> + Send;
}

/// Where a command comes from.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Who gives it.
    pub actor: Actor,
    /// What tells a request that is sent again, if the caller wants that.
    pub once: Option<Once>,
}

/// What tells a request that is sent again.
#[derive(Clone, Debug)]
pub struct Once {
    /// The id that the caller gave it.
    pub id: RequestId,
    /// A digest of the whole request, and of who sent it.
    pub fingerprint: [u8; 32],
}

/// What a caller is answered, in a form that can be kept.
pub trait Reply: Sized + Send + 'static {
    /// The bytes to keep.
    fn to_bytes(&self) -> Vec<u8>;

    /// The reply that was kept; none if these bytes are not of one.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

/// Carries out a command in a transaction of its own, all of it or nothing, and makes the reply from its
/// output and its revision: the present one if it changed nothing.
///
/// In a task of its own: a caller who hangs up or whose deadline passes leaves neither a commit half
/// acknowledged nor the writer in the middle of a transaction.
///
/// # Errors
/// What the command fails with, or that the database can't take it.
pub async fn write<W: Write, R: Reply>(
    db: &Db,
    command: W,
    origin: Origin,
    reply: fn(W::Output, Revision) -> R,
) -> Result<R> {
    let task = {
        let db = db.clone();
        let span = tracing::info_span!("transaction", otel.kind = "internal");
        let work = async move {
            let result = transact(&db, &command, &origin, reply).await;
            db.health.note(&result);
            result
        };
        tokio::spawn(work.instrument(span))
    };
    task.await
        .unwrap_or_else(|panic| Err(Error::Internal(panic.into())))
}

/// A transaction that others are in the way of is tried again for as long.
const RETRY_TIME: Duration = Duration::from_secs(4);
/// How long it waits at most before it is tried again.
const MAX_PAUSE: Duration = Duration::from_millis(100);

async fn transact<W: Write, R: Reply>(
    db: &Db,
    command: &W,
    origin: &Origin,
    reply: fn(W::Output, Revision) -> R,
) -> Result<R> {
    let _under_way = db.writes.begin();
    let begun = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        match attempt(db, command, origin, reply).await {
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

async fn attempt<W: Write, R: Reply>(
    db: &Db,
    command: &W,
    origin: &Origin,
    reply: fn(W::Output, Revision) -> R,
) -> Result<R> {
    let tx = begin(db).await?;
    let work = within(&tx, command, origin, reply);
    match db.health.while_there(work).await {
        Ok((reply, Some(revision))) => {
            commit(db, tx).await?;
            db.reach(revision);
            Ok(reply)
        }
        // Nothing is written: not even the revision that was taken.
        Ok((reply, None)) => {
            end(tx).await;
            Ok(reply)
        }
        Err(error) => {
            end(tx).await;
            Err(error)
        }
    }
}

/// Begins a transaction that may write.
pub(super) async fn begin(db: &Db) -> Result<DatabaseTransaction> {
    let sqlite = db.writer.get_database_backend() == DbBackend::Sqlite;
    let options = TransactionOptions {
        // A transaction that begins by reading can't be refused later when it comes to write.
        sqlite_transaction_mode: sqlite.then_some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let begin = async { Ok(db.writer.begin_with_options(options).await?) };
    db.health.while_there(begin).await
}

async fn commit(db: &Db, tx: DatabaseTransaction) -> Result<()> {
    let commit = async { Ok(tx.commit().await?) };
    match db.health.while_there(commit).await {
        // The server may have gone away before the commit or behind it. A file tells which.
        Err(Error::Unavailable(cause) | Error::Internal(cause))
            if db.writer.get_database_backend() != DbBackend::Sqlite =>
        {
            Err(Error::Uncertain(cause))
        }
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

/// Carries the command out; the revision is none if there is nothing to commit.
async fn within<W: Write, R: Reply>(
    tx: &DatabaseTransaction,
    command: &W,
    origin: &Origin,
    reply: fn(W::Output, Revision) -> R,
) -> Result<(R, Option<Revision>)> {
    let now = Timestamp::now();
    let revision = engine::take_revision(tx, now).await?;
    if let Some(once) = &origin.once
        && let Some(bytes) = request::answered(tx, once, now).await?
    {
        let reply = R::from_bytes(&bytes);
        let reply = reply.ok_or_else(|| Error::Internal("a kept reply can't be read".into()))?;
        return Ok((reply, None));
    }
    let mut changes = Vec::new();
    let output = command.apply(tx, &mut changes).await?;
    let changed = !changes.is_empty();
    let revision = if changed {
        change::record(tx, changes, revision, origin, now).await?;
        revision
    } else {
        revision.previous()
    };
    let reply = reply(output, revision);
    if let Some(once) = &origin.once {
        if !changed {
            // There is an answer to keep, but no revision to give.
            change::give_back(tx, revision).await?;
        }
        request::keep(tx, once, reply.to_bytes(), now).await?;
    }
    Ok((
        reply,
        (changed || origin.once.is_some()).then_some(revision),
    ))
}

/// Some part of `pause`, so that those who got in each other's way don't meet again.
fn jitter(pause: Duration) -> Duration {
    let [.., random] = *Uuid::now_v7().as_bytes();
    pause * (u32::from(random) + 1) / 256
}
