//! The pool of connections for reads, in transactions and by single statements, with admission.

use std::{future::Future, sync::Arc};

use sea_orm::{
    DatabaseConnection, DatabaseExecutor, DatabaseTransaction, DbErr, Selector, SelectorTrait,
    TransactionTrait,
};
use tracing::Instrument;

use super::{
    ConnectionPurpose,
    sqlite_read_pool::{ConnectionPair, SqliteReadPool, closed_error},
};
use crate::{
    error::{Error, Result},
    store::{
        admission_queue::QueueLimits,
        caller_limiter::{AdmissionPermit, PerCallerLimiter, ReadKind},
        location::Location,
        metrics::{PoolUsage, StatementMetrics},
        outage::Outage,
    },
};

/// The pool of connections for reads. A read must be admitted before it gets a connection.
#[derive(Clone, Debug)]
pub(in crate::store) struct ReadPool(Arc<ReadPoolInner>);

#[derive(Debug)]
struct ReadPoolInner {
    connections: Connections,
    /// Admits as many reads at once as there are connections.
    limiter: Arc<PerCallerLimiter>,
    statements: StatementMetrics,
    outage: Arc<Outage>,
}

#[derive(Debug)]
enum Connections {
    /// To a server.
    Server(DatabaseConnection),
    /// To a SQLite file.
    Sqlite(SqliteReadPool),
}

/// Permission to read: there are as many permits as connections, and no other way to get a connection.
///
/// When it is dropped, statements that still run on a SQLite file are interrupted, and the permit is released after
/// that. On a server nothing may run by then: see [`ReadPool::run_to_completion`].
#[derive(Debug)]
pub(in crate::store) struct ReadPermit {
    reader: ReadPool,
    /// The connections to a SQLite file; `None` on a server.
    pair: Option<ConnectionPair>,
    /// A read-only transaction: every statement in it sees the same state.
    tx: Option<DatabaseTransaction>,
    admission: Option<AdmissionPermit>,
    /// Whether a single statement, or the transaction, may still run or has failed because of the connection.
    statement_open: bool,
    transaction_open: bool,
}

impl ReadPool {
    /// Creates a pool of connections to one of the servers of `location`; they are opened on demand.
    pub(in crate::store) fn connect(
        location: &Location,
        server: usize,
        connections: u32,
        limits: QueueLimits,
        outage: &Arc<Outage>,
        statements: &StatementMetrics,
    ) -> Self {
        let limiter = Arc::new(PerCallerLimiter::new(connections, limits));
        let connections = if let Location::Sqlite(path) = location {
            Connections::Sqlite(SqliteReadPool::new(path, connections, statements))
        } else {
            let mut pool = super::connect(
                location,
                server,
                ConnectionPurpose::Read,
                connections,
                outage,
            );
            statements.instrument(&mut pool);
            Connections::Server(pool)
        };
        Self(Arc::new(ReadPoolInner {
            connections,
            limiter,
            statements: statements.clone(),
            outage: outage.clone(),
        }))
    }

    /// Opens all connections in advance where opening one takes long.
    pub(in crate::store) async fn warm_up(&self, connections: u32) -> Result<(), sqlx::Error> {
        match &self.0.connections {
            Connections::Server(pool) => super::warm_up(pool, connections).await,
            Connections::Sqlite(_) => Ok(()),
        }
    }

    /// Waits for admission, without which nothing can be read.
    ///
    /// # Errors
    /// Too many reads wait already.
    pub(in crate::store) async fn acquire(&self, read: ReadKind) -> Result<ReadPermit> {
        let admission = self.0.limiter.acquire(read).await?;
        let pair = match &self.0.connections {
            Connections::Server(_) => None,
            Connections::Sqlite(sqlite) => Some(sqlite.acquire()?),
        };
        Ok(ReadPermit {
            reader: self.clone(),
            pair,
            tx: None,
            admission: Some(admission),
            statement_open: false,
            transaction_open: false,
        })
    }

    /// Runs an admitted read. On a server, the read runs to its end even if this future is dropped: a statement would
    /// continue there anyway, and the driver for MariaDB loses track of a connection whose statement is dropped while
    /// the server prepares it.
    ///
    /// # Errors
    /// The server became unreachable meanwhile.
    pub(in crate::store) async fn run_to_completion<T: Send + 'static>(
        &self,
        read: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        if let Connections::Sqlite(_) = self.0.connections {
            return Ok(read.await);
        }
        let outage = self.0.outage.clone();
        let read = async move {
            tokio::select! {
                biased;
                output = read => Ok(output),
                () = outage.wait_for_start() => Err(Error::Unavailable("it went away meanwhile".into())),
            }
        };
        match tokio::spawn(read.in_current_span()).await {
            Ok(output) => output,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(closed_error().into()),
            },
        }
    }

    /// How many reads wait for admission, and how many have been rejected since the start.
    pub(in crate::store) fn queue_counts(&self) -> (usize, u64) {
        self.0.limiter.counts()
    }

    /// Makes the pool open its new connections to another of the servers.
    pub(in crate::store) fn redirect(&self, location: &Location, server: usize) {
        if let Connections::Server(pool) = &self.0.connections {
            super::redirect(pool, location, server);
        }
    }

    /// How many connections are idle and busy.
    pub(in crate::store) fn connections(&self) -> PoolUsage {
        match &self.0.connections {
            Connections::Server(pool) => PoolUsage::from_pool(pool),
            Connections::Sqlite(sqlite) => sqlite.connections(),
        }
    }

    /// Runs a query for which several callers may wait, such as a cache load; its admission counts for none of them.
    pub(in crate::store) async fn fetch_shared<S>(
        &self,
        select: Selector<S>,
    ) -> Result<Vec<S::Item>>
    where
        S: SelectorTrait + Send + 'static,
        S::Item: Send + 'static,
    {
        let mut permit = self.acquire(ReadKind::Shared).await?;
        let read = async move {
            let rows = select.all(&permit.executor().await?).await?;
            permit.mark_clean();
            Ok(rows)
        };
        self.run_to_completion(read).await?
    }

    /// Closes every connection after the statements that run on it have ended.
    pub(in crate::store) async fn close(&self) -> Result<(), DbErr> {
        match &self.0.connections {
            Connections::Server(pool) => pool.close_by_ref().await,
            Connections::Sqlite(sqlite) => sqlite.close().await,
        }
    }
}

impl ReadPermit {
    /// The executor for single statements. Each sees the state that is committed when it begins.
    pub(in crate::store) async fn executor(&mut self) -> Result<DatabaseExecutor<'_>, DbErr> {
        self.statement_open = true;
        match (&mut self.pair, &self.reader.0.connections) {
            (Some(pair), _) => Ok(pair.statement_connection().await?.into()),
            (None, Connections::Server(pool)) => Ok(pool.into()),
            (None, Connections::Sqlite(_)) => Err(closed_error()),
        }
    }

    /// Begins a read-only transaction, all of whose statements see the same state. It ends with the permit.
    pub(in crate::store) async fn snapshot(&mut self) -> Result<&DatabaseTransaction> {
        self.transaction_open = true;
        let ReadPoolInner {
            connections,
            statements,
            ..
        } = &*self.reader.0;
        let pool = match (&self.pair, connections) {
            (Some(pair), _) => pair.transactions(),
            (None, Connections::Server(pool)) => pool,
            (None, Connections::Sqlite(_)) => return Err(closed_error().into()),
        };
        let tx = statements.begin(pool.begin()).await?;
        Ok(self.tx.insert(tx))
    }

    /// Records that all statements since the last call of [`Self::executor`] or [`Self::snapshot`] have ended, and that
    /// none of them failed because of the connection.
    pub(in crate::store) fn mark_clean(&mut self) {
        if self.tx.is_some() {
            self.transaction_open = false;
        } else {
            self.statement_open = false;
        }
    }
}

impl Drop for ReadPermit {
    fn drop(&mut self) {
        let (tx, admission) = (self.tx.take(), self.admission.take());
        let Some(mut pair) = self.pair.take() else {
            return;
        };
        let reader = self.reader.clone();
        let release = move |pair: ConnectionPair| {
            if let Connections::Sqlite(sqlite) = &reader.0.connections {
                sqlite.release(pair);
            }
            drop(admission);
        };
        let statement_open = self.statement_open;
        let runtime = tokio::runtime::Handle::try_current();
        match runtime {
            Ok(runtime) if statement_open || self.transaction_open => {
                drop(runtime.spawn(async move {
                    pair.interrupt(statement_open).await;
                    if let Some(tx) = tx {
                        let _ = tx.rollback().await;
                    }
                    release(pair);
                }))
            }
            _ => {
                drop(tx);
                release(pair);
            }
        }
    }
}
