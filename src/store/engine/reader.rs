//! Pool to read on: for a transaction, and for single statements.

use std::sync::Arc;

use sea_orm::{
    DatabaseConnection, DatabaseExecutor, DatabaseTransaction, DbErr, Selector, SelectorTrait,
    TransactionTrait,
};

use super::{
    Use,
    slots::{Slot, Slots, closed},
};
use crate::{
    error::Result,
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
pub(in crate::store) struct Reader {
    connections: Connections,
    /// As many calls at once as there are connections.
    gate: Arc<FairGate>,
    statements: Statements,
}

#[derive(Clone, Debug)]
enum Connections {
    /// To a server.
    Pool(DatabaseConnection),
    /// To a SQLite file.
    Slots(Arc<Slots>),
}

/// The right to read now: there are as many as connections. A connection can be had in no other way.
///
/// What is still under way when it is dropped is ended, and the right is given up only then.
#[derive(Debug)]
pub(in crate::store) struct Admitted<'a> {
    reader: &'a Reader,
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
            Connections::Slots(Arc::new(Slots::new(path, connections, statements)))
        } else {
            let mut pool = super::connect(location, server, Use::Read, connections, outage);
            statements.watch(&mut pool);
            Connections::Pool(pool)
        };
        Self {
            connections,
            gate,
            statements: statements.clone(),
        }
    }

    /// Opens as many connections as there may be, where that takes long.
    pub(in crate::store) async fn open_all(&self, connections: u32) -> Result<(), sqlx::Error> {
        match &self.connections {
            Connections::Pool(pool) => super::open_all(pool, connections).await,
            Connections::Slots(_) => Ok(()),
        }
    }

    /// Waits to be admitted: nothing is read without.
    ///
    /// # Errors
    /// Too many wait.
    pub(in crate::store) async fn enter(&self, read: Kind) -> Result<Admitted<'_>> {
        let admission = self.gate.enter(read).await?;
        let slot = match &self.connections {
            Connections::Pool(_) => None,
            Connections::Slots(slots) => Some(slots.take()?),
        };
        Ok(Admitted {
            reader: self,
            slot,
            tx: None,
            admission: Some(admission),
            lent: false,
            reading: false,
        })
    }

    /// How many wait to be admitted, and how many have been refused so far.
    pub(in crate::store) fn queued(&self) -> (usize, u64) {
        self.gate.counts()
    }

    /// From now on it is read from another of the servers.
    pub(in crate::store) fn redirect(&self, location: &Location, server: usize) {
        if let Connections::Pool(pool) = &self.connections {
            super::redirect(pool, location, server);
        }
    }

    /// How many connections there are.
    pub(in crate::store) fn connections(&self) -> Pool {
        match &self.connections {
            Connections::Pool(pool) => Pool::of(pool),
            Connections::Slots(slots) => slots.connections(),
        }
    }

    /// Carries out one statement that several callers may wait for, once it is admitted.
    pub(in crate::store) async fn all<S>(&self, select: Selector<S>) -> Result<Vec<S::Item>>
    where
        S: SelectorTrait,
    {
        let mut admitted = self.enter(Kind::Shared).await?;
        let rows = select.all(&admitted.lend().await?).await?;
        admitted.done();
        Ok(rows)
    }

    /// Closes every connection, after what is under way in them.
    pub(in crate::store) async fn close(&self) -> Result<(), DbErr> {
        match &self.connections {
            Connections::Pool(pool) => pool.close_by_ref().await,
            Connections::Slots(slots) => slots.close().await,
        }
    }
}

impl Admitted<'_> {
    /// What single statements are carried out on. Each sees what is committed when it begins.
    pub(in crate::store) async fn lend(&mut self) -> Result<DatabaseExecutor<'_>, DbErr> {
        self.lent = true;
        match (&mut self.slot, &self.reader.connections) {
            (Some(slot), _) => Ok(slot.held().await?.into()),
            (None, Connections::Pool(pool)) => Ok(pool.into()),
            (None, Connections::Slots(_)) => Err(closed()),
        }
    }

    /// Begins a transaction to read in, which ends with the admission.
    pub(in crate::store) async fn snapshot(&mut self) -> Result<&DatabaseTransaction> {
        self.reading = true;
        let pool = match (&self.slot, &self.reader.connections) {
            (Some(slot), _) => slot.transactions(),
            (None, Connections::Pool(pool)) => pool,
            (None, Connections::Slots(_)) => return Err(closed().into()),
        };
        let tx = self.reader.statements.begin(pool.begin()).await?;
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

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        let (mut slot, tx, admission) = (self.slot.take(), self.tx.take(), self.admission.take());
        let lent = self.lent && slot.is_some();
        let slots = match &self.reader.connections {
            Connections::Pool(_) => None,
            Connections::Slots(slots) => Some(slots.clone()),
        };
        let give_back = move |slot: Option<Slot>| {
            if let Some((slots, slot)) = slots.zip(slot) {
                slots.give_back(slot);
            }
            drop(admission);
        };
        let runtime = tokio::runtime::Handle::try_current();
        match runtime {
            Ok(runtime) if lent || self.reading => drop(runtime.spawn(async move {
                if let Some(slot) = &mut slot {
                    slot.interrupt(lent).await;
                }
                if let Some(tx) = tx {
                    // A server's statement goes on until its end, or its time limit.
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
