//! Queries and transactions, a file a resource.
//!
//! A read is a function of [`Db`]; a write is a command that implements [`Write`] and is carried out by
//! [`write()`]: the one place where a transaction begins and commits.

mod classify;
pub mod group;
pub mod member;
mod page;
pub mod role;
mod sqlite;
pub mod user;
mod write;

use std::sync::Arc;

use sea_orm::{DatabaseConnection, DatabaseTransaction, TransactionTrait};
use tokio::sync::watch;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use crate::error::Result;

pub use page::Page;
pub use sqlite::{Location, OpenError};
pub use write::{Write, write};

/// The database: connections to write through, and connections to read through beside them.
#[derive(Clone, Debug)]
pub struct Db {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    /// Apart from the others: a full pool is no dead database.
    prober: DatabaseConnection,
    /// Whether a write has failed for want of the database since the last probe.
    fault: Arc<watch::Sender<bool>>,
}

impl Db {
    /// Opens the database, creating it if it isn't there, and brings it to this version's schema.
    ///
    /// # Errors
    /// One sentence for the operator on what is wrong with the place or the data there.
    pub async fn open(location: &Location) -> Result<Self, OpenError> {
        let [writer, reader, prober] = sqlite::open(location).await?;
        Ok(Self {
            writer,
            reader,
            prober,
            fault: Arc::new(watch::Sender::new(false)),
        })
    }

    /// Closes every connection, after what is under way in them.
    pub async fn close(self) {
        for connection in [self.prober, self.reader, self.writer] {
            if let Err(error) = connection.close().await {
                tracing::warn!(error = %error, "closing the database failed");
            }
        }
    }

    /// Waits until a write has failed for want of the database.
    pub async fn faulted(&self) {
        // The sender lives in `self`, so the channel can't be closed.
        let _ = self.fault.subscribe().wait_for(|fault| *fault).await;
    }

    /// Whether the database can be read.
    pub async fn is_readable(&self) -> bool {
        // A probe is nobody's call: it leaves no spans.
        sqlite::probe_read(&self.prober)
            .with_subscriber(NoSubscriber::default())
            .await
            .is_ok()
    }

    /// Whether the database can be written, found out by writing to it.
    pub async fn is_writable(&self) -> bool {
        self.fault.send_replace(false);
        let probe = sqlite::probe_write(&self.writer)
            .with_subscriber(NoSubscriber::default())
            .await;
        probe.is_ok() && !*self.fault.borrow()
    }

    /// Begins a read-only transaction: every statement in it sees the same state. It ends when dropped.
    async fn snapshot(&self) -> Result<DatabaseTransaction> {
        Ok(self.reader.begin().await?)
    }
}
