//! The write path: every change to the directory goes through [`write()`].

use std::future::Future;

use sea_orm::{DatabaseTransaction, SqliteTransactionMode, TransactionOptions, TransactionTrait};
use tracing::Instrument;

use super::{Db, change, request};
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
            if let Err(Error::Unavailable(_)) = &result {
                db.fault.send_replace(true);
            }
            result
        };
        tokio::spawn(work.instrument(span))
    };
    task.await
        .unwrap_or_else(|panic| Err(Error::Internal(panic.into())))
}

async fn transact<W: Write, R: Reply>(
    db: &Db,
    command: &W,
    origin: &Origin,
    reply: fn(W::Output, Revision) -> R,
) -> Result<R> {
    let _under_way = db.writes.begin();
    let tx = begin(db).await?;
    match within(&tx, command, origin, reply).await {
        Ok((reply, revision)) => {
            tx.commit().await?;
            db.reach(revision);
            Ok(reply)
        }
        Err(error) => {
            if let Err(failed) = tx.rollback().await {
                // SQLite has rolled back by itself after some errors, a full disk among them.
                tracing::debug!(error = %failed, "nothing left to roll back");
            }
            Err(error)
        }
    }
}

/// Begins a transaction that may write.
pub(super) async fn begin(db: &Db) -> Result<DatabaseTransaction> {
    // IMMEDIATE: a transaction that begins by reading can't be refused later when it comes to write.
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    Ok(db.writer.begin_with_options(options).await?)
}

async fn within<W: Write, R: Reply>(
    tx: &DatabaseTransaction,
    command: &W,
    origin: &Origin,
    reply: fn(W::Output, Revision) -> R,
) -> Result<(R, Revision)> {
    let now = Timestamp::now();
    if let Some(once) = &origin.once
        && let Some(bytes) = request::answered(tx, once, now).await?
    {
        let reply = R::from_bytes(&bytes);
        let reply = reply.ok_or_else(|| Error::Internal("a kept reply can't be read".into()))?;
        return Ok((reply, Revision::NONE));
    }
    let mut changes = Vec::new();
    let output = command.apply(tx, &mut changes).await?;
    let revision = change::record(tx, changes, origin, now).await?;
    let reply = reply(output, revision);
    if let Some(once) = &origin.once {
        request::keep(tx, once, reply.to_bytes(), now).await?;
    }
    Ok((reply, revision))
}
