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
use job::Job;
pub(super) use queue::Queue;

/// A command that changes the directory.
pub trait Write: Send + Sync + 'static {
    /// What the command answers with.
    type Output: Send + 'static;

    /// Carries the command out within `tx`, and logs what it changes, in order. What it writes has the time of the
    /// log. Takes `&self`, so that it can be carried out again in a new transaction where an engine asks for that.
    ///
    /// # Errors
    /// Whatever the command fails with; nothing of it is kept then.
    fn apply(
        &self,
        tx: &DatabaseTransaction,
        changes: &mut ChangeLog,
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
    /// A digest of what the request means, and of who sent it.
    pub fingerprint: [u8; 32],
    /// The same of the bytes that were sent: versions before this one have kept that.
    pub as_sent: [u8; 32],
}

/// What a caller is answered, in a form that can be kept.
pub trait Reply: Sized + Send + 'static {
    /// The bytes to keep.
    fn to_bytes(&self) -> Vec<u8>;

    /// The reply that was kept; none if these bytes are not of one.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

/// How long a write waits for its turn until it is told that there are too many.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);

/// Carries out a command, all of it or nothing, and makes the reply from its output and its revision: the present
/// one if it changed nothing. Those who wait at the same time share a transaction, in which each fails alone.
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
    db.health.check()?;
    let place = db.queue.join()?;
    let (job, mut answer) = Job::new(command, origin, reply, db.writes.begin());
    let place = db.queue.put(place, Box::new(job));
    tokio::spawn({
        let db = db.clone();
        async move { queue::take_turn(&db).await }
    });
    let answered = match tokio::time::timeout(TURN_TIMEOUT, &mut answer).await {
        Ok(answered) => answered,
        Err(_) if db.queue.leave(place) => {
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
        // A transaction that begins by reading can't be refused later when it comes to write.
        sqlite_transaction_mode: sqlite.then_some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let begin = db.writer.begin_with_options(options);
    let begin = async { Ok(db.statements.begin(begin).await?) };
    let tx = db.health.while_there(begin).await?;
    db.health.check_file()?;
    Ok(tx)
}
