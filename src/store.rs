//! Queries and transactions, a file a resource.
//!
//! A read is a function of [`Db`]; a write is a command that implements [`Write`] and is carried out by
//! [`write()`]: the one place where a transaction begins and commits.

pub mod access;
pub mod change;
mod classify;
pub mod group;
pub mod member;
mod page;
pub mod request;
pub mod role;
mod sqlite;
pub mod user;
mod write;

use std::{sync::Arc, time::Duration};

use sea_orm::{DatabaseConnection, DatabaseTransaction, TransactionTrait};
use tokio::{sync::watch, time::timeout};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use crate::{
    domain::Revision,
    error::{Error, Result},
};

pub use page::{At, Page};
pub use sqlite::{Location, OpenError};
pub use write::{Once, Origin, Reply, Write, write};

/// The database: connections to write through, and connections to read through beside them.
#[derive(Clone, Debug)]
pub struct Db {
    writer: DatabaseConnection,
    reader: DatabaseConnection,
    /// Apart from the others: a full pool is no dead database.
    prober: DatabaseConnection,
    /// Whether a write has failed for want of the database since the last probe.
    fault: Arc<watch::Sender<bool>>,
    /// The last revision that is known to be committed.
    revision: Arc<watch::Sender<Revision>>,
    writes: UnderWay,
}

/// How long a read waits for the revision that it asks for.
const FRESHNESS_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it looks for itself meanwhile: another process may have written.
const FRESHNESS_POLL: Duration = Duration::from_millis(100);

impl Db {
    /// Opens the database, creating it if it isn't there, and brings it to this version's schema.
    ///
    /// # Errors
    /// One sentence for the operator on what is wrong with the place or the data there.
    pub async fn open(location: &Location) -> Result<Self, OpenError> {
        let [writer, reader, prober] = sqlite::open(location).await?;
        let revision = change::directory(&reader)
            .await
            .map(|directory| directory.revision);
        let revision = revision.map_err(|error| OpenError::unreadable(location, &error))?;
        Ok(Self {
            writer,
            reader,
            prober,
            fault: Arc::new(watch::Sender::new(false)),
            revision: Arc::new(watch::Sender::new(revision)),
            writes: UnderWay::default(),
        })
    }

    /// The last revision that is known to be committed.
    #[must_use]
    pub fn revision(&self) -> Revision {
        *self.revision.borrow()
    }

    /// Tells of every revision that gets known to be committed.
    #[must_use]
    pub fn revisions(&self) -> watch::Receiver<Revision> {
        self.revision.subscribe()
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
        self.revision.send_if_modified(|known| {
            let newer = revision > *known;
            *known = std::cmp::max(revision, *known);
            newer
        });
    }

    /// Waits until what is read from now on is at least as fresh as `wanted`.
    ///
    /// # Errors
    /// The directory hasn't given this revision, and doesn't in the next 5 seconds.
    async fn reached(&self, wanted: Revision) -> Result<()> {
        if self.revision() >= wanted {
            return Ok(());
        }
        let mut revisions = self.revision.subscribe();
        let reached = async {
            loop {
                self.reach(change::directory(&self.reader).await?.revision);
                let reached = revisions.wait_for(|revision| *revision >= wanted);
                if let Ok(Ok(_)) = timeout(FRESHNESS_POLL, reached).await {
                    return Ok(());
                }
            }
        };
        timeout(FRESHNESS_TIMEOUT, reached)
            .await
            .unwrap_or_else(|_| {
                Err(Error::RevisionUnknown {
                    present: self.revision(),
                })
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

    /// Begins a read of a state at least as fresh as `wanted`: a snapshot, and its revision.
    async fn seen(&self, wanted: Revision) -> Result<(DatabaseTransaction, Revision)> {
        self.reached(wanted).await?;
        let snapshot = self.snapshot().await?;
        let revision = change::directory(&snapshot).await?.revision;
        Ok((snapshot, revision))
    }

    /// Begins a read-only transaction: every statement in it sees the same state. It ends when dropped.
    async fn snapshot(&self) -> Result<DatabaseTransaction> {
        Ok(self.reader.begin().await?)
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
