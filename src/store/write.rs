//! The write path: every change to the directory goes through [`write()`].

use std::future::Future;

use sea_orm::{DatabaseTransaction, SqliteTransactionMode, TransactionOptions, TransactionTrait};
use tracing::Instrument;

use super::Db;
use crate::error::{Error, Result};

/// A command that changes the directory.
pub trait Write: Send + Sync + 'static {
    /// What the command answers with.
    type Output: Send + 'static;

    /// Carries the command out within `tx`. Takes `&self`, so that it can be carried out again in a new
    /// transaction where an engine asks for that.
    ///
    /// # Errors
    /// Whatever the command fails with; nothing of it is kept then.
    fn apply(&self, tx: &DatabaseTransaction) -> impl Future<Output = Result<Self::Output>> + Send;
}

/// Carries out a command in a transaction of its own: all of it, or nothing.
///
/// In a task of its own: a caller who hangs up or whose deadline passes leaves neither a commit half
/// acknowledged nor the writer in the middle of a transaction.
///
/// # Errors
/// What the command fails with, or that the database can't take it.
pub async fn write<W: Write>(db: &Db, command: W) -> Result<W::Output> {
    let task = {
        let db = db.clone();
        let span = tracing::info_span!("transaction", otel.kind = "internal");
        let work = async move {
            let result = transact(&db, &command).await;
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

async fn transact<W: Write>(db: &Db, command: &W) -> Result<W::Output> {
    // IMMEDIATE: a transaction that begins by reading can't be refused later when it comes to write.
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..TransactionOptions::default()
    };
    let tx = db.writer.begin_with_options(options).await?;
    match command.apply(&tx).await {
        Ok(output) => {
            // The revision will be taken here: in the transaction, after all that can fail.
            tx.commit().await?;
            Ok(output)
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
