//! Pool to read on: for a transaction, and for single statements.

use std::{future::Future, sync::Arc};

use sea_orm::{
    DatabaseConnection, DatabaseExecutor, DatabaseTransaction, DbErr, Selector, SelectorTrait,
    TransactionTrait,
};
use tracing::Instrument;

use super::{
    Use,
    slots::{Slot, Slots, closed},
};
use crate::{
    error::{Error, Result},
    store::{
        fair::{Admission, FairGate, Kind},
        line::Limits,
        location::Location,
        outage::Outage,
        timing::{Pool, Statements},
    },
};

/// Pool to read on.
#[derive(Clone, Debug)]
pub(in crate::store) struct Reader(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connections: Connections,
    /// As many calls at once as there are connections.
    gate: Arc<FairGate>,
    statements: Statements,
    outage: Arc<Outage>,
}

#[derive(Debug)]
enum Connections {
    /// To a server.
    Pool(DatabaseConnection),
    /// To a SQLite file.
    Slots(Slots),
}

/// The right to read now: there are as many as connections. A connection can be had in no other way.
///
/// What is still under way on a SQLite file when it is dropped is ended, and the right is given up only then. On a
/// server nothing may be under way: see [`Reader::finish`].
#[derive(Debug)]
pub(in crate::store) struct Admitted {
    reader: Reader,
    /// Of a SQLite file.
    slot: Option<Slot>,
    /// A read-only transaction: every statement in it sees the same state.
    tx: Option<DatabaseTransaction>,
    admission: Option<Admission>,
    /// Whether single statements, or the transaction, haven't ended as they should.
    lent: bool,
    reading: bool,
}

impl Reader {
    /// Pool to one of the servers of `location`, opened when they are needed.
    pub(in crate::store) fn connect(
        location: &Location,
        server: usize,
        connections: u32,
        limits: Limits,
        outage: &Arc<Outage>,
        statements: &Statements,
    ) -> Self {
        let gate = Arc::new(FairGate::new(connections, limits));
        let connections = if let Location::Sqlite(path) = location {
            Connections::Slots(Slots::new(path, connections, statements))
        } else {
            let mut pool = super::connect(location, server, Use::Read, connections, outage);
            statements.watch(&mut pool);
            Connections::Pool(pool)
        };
        Self(Arc::new(Inner {
            connections,
            gate,
            statements: statements.clone(),
            outage: outage.clone(),
        }))
    }

    /// Opens as many connections as there may be, where that takes long.
    pub(in crate::store) async fn open_all(&self, connections: u32) -> Result<(), sqlx::Error> {
        match &self.0.connections {
            Connections::Pool(pool) => super::open_all(pool, connections).await,
            Connections::Slots(_) => Ok(()),
        }
    }

    /// Waits to be admitted: nothing is read without.
    ///
    /// # Errors
    /// Too many wait.
    pub(in crate::store) async fn enter(&self, read: Kind) -> Result<Admitted> {
        let admission = self.0.gate.enter(read).await?;
        let slot = match &self.0.connections {
            Connections::Pool(_) => None,
            Connections::Slots(slots) => Some(slots.take()?),
        };
        Ok(Admitted {
            reader: self.clone(),
            slot,
            tx: None,
            admission: Some(admission),
            lent: false,
            reading: false,
        })
    }

    /// Carries out a read that has been admitted. On a server it goes on to its end even if this is dropped: a
    /// statement there goes on anyway, and the driver for MariaDB loses track of a connection whose statement is
    /// dropped while the server prepares it.
    ///
    /// # Errors
    /// The server went away meanwhile.
    pub(in crate::store) async fn finish<T: Send + 'static>(
        &self,
        read: impl Future<Output = T> + Send + 'static,
    ) -> Result<T> {
        if let Connections::Slots(_) = self.0.connections {
            return Ok(read.await);
        }
        let outage = self.0.outage.clone();
        let read = async move {
            tokio::select! {
                biased;
                output = read => Ok(output),
                () = outage.strikes() => Err(Error::Unavailable("it went away meanwhile".into())),
            }
        };
        match tokio::spawn(read.in_current_span()).await {
            Ok(output) => output,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(closed().into()),
            },
        }
    }

    /// How many wait to be admitted, and how many have been refused so far.
    pub(in crate::store) fn queued(&self) -> (usize, u64) {
        self.0.gate.counts()
    }

    /// From now on it is read from another of the servers.
    pub(in crate::store) fn redirect(&self, location: &Location, server: usize) {
        if let Connections::Pool(pool) = &self.0.connections {
            super::redirect(pool, location, server);
        }
    }

    /// How many connections there are.
    pub(in crate::store) fn connections(&self) -> Pool {
        match &self.0.connections {
            Connections::Pool(pool) => Pool::of(pool),
            Connections::Slots(slots) => slots.connections(),
        }
    }

    /// Carries out one statement that several callers may wait for, once it is admitted.
    pub(in crate::store) async fn all<S>(&self, select: Selector<S>) -> Result<Vec<S::Item>>
    where
        S: SelectorTrait + Send + 'static,
        S::Item: Send + 'static,
    {
        let mut admitted = self.enter(Kind::Shared).await?;
        let read = async move {
            let rows = select.all(&admitted.lend().await?).await?;
            admitted.done();
            Ok(rows)
        };
        self.finish(read).await?
    }

    /// Closes every connection, after what is under way in them.
    pub(in crate::store) async fn close(&self) -> Result<(), DbErr> {
        match &self.0.connections {
            Connections::Pool(pool) => pool.close_by_ref().await,
            Connections::Slots(slots) => slots.close().await,
        }
    }
}

impl Admitted {
    /// What single statements are carried out on. Each sees what is committed when it begins.
    pub(in crate::store) async fn lend(&mut self) -> Result<DatabaseExecutor<'_>, DbErr> {
        self.lent = true;
        match (&mut self.slot, &self.reader.0.connections) {
            (Some(slot), _) => Ok(slot.held().await?.into()),
            (None, Connections::Pool(pool)) => Ok(pool.into()),
            (None, Connections::Slots(_)) => Err(closed()),
        }
    }

    /// Begins a transaction to read in, which ends with the admission.
    pub(in crate::store) async fn snapshot(&mut self) -> Result<&DatabaseTransaction> {
        self.reading = true;
        let Inner {
            connections,
            statements,
            ..
        } = &*self.reader.0;
        let pool = match (&self.slot, connections) {
            (Some(slot), _) => slot.transactions(),
            (None, Connections::Pool(pool)) => pool,
            (None, Connections::Slots(_)) => return Err(closed().into()),
        };
        let tx = statements.begin(pool.begin()).await?;
        Ok(self.tx.insert(tx))
    }

    /// All statements since the last call of [`Self::lend`] or [`Self::snapshot`] have ended, and none of them because of
    /// the connection.
    pub(in crate::store) fn done(&mut self) {
        if self.tx.is_some() {
            self.reading = false;
        } else {
            self.lent = false;
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        let (tx, admission) = (self.tx.take(), self.admission.take());
        let Some(mut slot) = self.slot.take() else {
            return;
        };
        let reader = self.reader.clone();
        let give_back = move |slot: Slot| {
            if let Connections::Slots(slots) = &reader.0.connections {
                slots.give_back(slot);
            }
            drop(admission);
        };
        let lent = self.lent;
        let runtime = tokio::runtime::Handle::try_current();
        match runtime {
            Ok(runtime) if lent || self.reading => drop(runtime.spawn(async move {
                slot.interrupt(lent).await;
                if let Some(tx) = tx {
                    let _ = tx.rollback().await;
                }
                give_back(slot);
            })),
            _ => {
                drop(tx);
                give_back(slot);
            }
        }
    }
}
