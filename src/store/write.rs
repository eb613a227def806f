//! The write path: every change to the directory goes through [`write()`].

mod batch;
mod job;
mod queue;

use std::{future::Future, time::Duration};

use sea_orm::{
    DatabaseTransaction, DbBackend, SqliteTransactionMode, TransactionOptions, TransactionTrait,
};

use super::Db;
use crate::{
    domain::{Actor, ChangeLog, RequestId, Revision},
    error::{Error, Result},
};
use job::WriteJob;
pub(super) use queue::WriteQueue;

/// A command that changes the directory.
pub trait Write: Send + Sync + 'static {
    /// The result of the command.
    type Output: Send + 'static;

    /// Executes the command within `tx`, and logs its changes in order. Rows are written with the time of the log.
    /// Takes `&self`, so that the command can be executed again in a new transaction after a conflict.
    ///
    /// # Errors
    /// Whatever the command fails with; then none of its writes is committed.
    fn apply(
        &self,
        tx: &DatabaseTransaction,
        changes: &mut ChangeLog,
    ) -> impl Future<Output = Result<Self::Output>> + Send;
}

/// The origin of a command.
#[derive(Clone, Debug, Default)]
pub struct RequestContext {
    /// The actor that changes are recorded under.
    pub actor: Actor,
    /// The key that identifies a retried request, if the caller gave a `request_id`.
    pub idempotency_key: Option<IdempotencyKey>,
}

/// Identifies a retried request.
#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    /// The `request_id` given by the caller.
    pub id: RequestId,
    /// A digest of the normalized request and its actor.
    pub fingerprint: [u8; 32],
    /// The same digest over the request as it was sent, without normalization: earlier versions stored this one.
    pub raw_fingerprint: [u8; 32],
}

/// A response that can be stored, to be returned again for a retried request.
pub trait StoredResponse: Sized + Send + 'static {
    /// The bytes to store.
    fn to_bytes(&self) -> Vec<u8>;

    /// The stored response; `None` if these bytes can't be decoded.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

/// How long a write waits in the queue before it fails with `Overloaded`.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);

/// Executes a command atomically, and makes the response from its output and its revision: the current revision if it
/// changed nothing. Writes that are queued at the same time share a transaction, in which each can fail alone.
///
/// Runs in a separate task: a caller that disconnects or whose deadline expires must not interrupt a commit or leave
/// the writer in the middle of a transaction.
///
/// # Errors
/// What the command fails with, or `Overloaded`, `Conflict`, `Unavailable` or `CommitUnknown`.
pub async fn write<W: Write, R: StoredResponse>(
    db: &Db,
    command: W,
    context: RequestContext,
    reply: fn(W::Output, Revision) -> R,
) -> Result<R> {
    db.health.check()?;
    let ticket = db.queue.enqueue()?;
    let (job, mut answer) = WriteJob::new(command, context, reply, db.writes.begin());
    let id = db.queue.push(ticket, Box::new(job));
    tokio::spawn({
        let db = db.clone();
        async move { queue::run_next_batch(&db).await }
    });
    let answered = match tokio::time::timeout(QUEUE_TIMEOUT, &mut answer).await {
        Ok(answered) => answered,
        Err(_) if db.queue.cancel(id) => {
            return Err(Error::Overloaded("its turn didn't come in time".into()));
        }
        Err(_) => answer.await,
    };
    answered.unwrap_or_else(|_| Err(Error::Internal("the write panicked".into())))
}

/// Begins a transaction that may write.
pub(super) async fn begin(db: &Db) -> Result<DatabaseTransaction> {
    let sqlite = db.writer.get_database_backend() == DbBackend::Sqlite;
    let options = TransactionOptions {
        // A deferred transaction that begins with a read can be rejected later, when it first writes; an immediate one
        // takes the write lock at its start.
        sqlite_transaction_mode: sqlite.then_some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let begin = db.writer.begin_with_options(options);
    let begin = async { Ok(db.statements.begin(begin).await?) };
    let tx = db.health.while_reachable(begin).await?;
    db.health.check_file()?;
    Ok(tx)
}
