//! Pool to read on: for a transaction, and for single statements.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DatabaseExecutor, DatabaseTransaction,
    DbErr, Selector, SelectorTrait, TransactionTrait,
};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{ACQUIRE_TIMEOUT, Use};
use crate::{
    error::Result,
    store::{
        line::{Gate, Limits},
        location::Location,
        outage::Outage,
        timing::{Pool, Statements},
    },
};

/// Pool to read on.
#[derive(Clone, Debug)]
pub(in crate::store) struct Reader {
    /// For transactions.
    pool: DatabaseConnection,
    /// Before both: as many calls at once as there are connections.
    gate: Arc<Gate>,
    held: Option<Arc<Held>>,
    statements: Statements,
}

/// The right to read now: there are as many as connections. A connection can be had in no other way.
#[derive(Debug)]
pub(in crate::store) struct Admitted<'a> {
    reader: &'a Reader,
    permit: SemaphorePermit<'a>,
}

/// A read-only transaction: every statement in it sees the same state. It ends when dropped, and with it the right to
/// read.
#[derive(Debug)]
pub(in crate::store) struct Snapshot<'a> {
    tx: DatabaseTransaction,
    _permit: SemaphorePermit<'a>,
}

/// Pool for single statements, kept out of their pool. Whatever goes back to a pool is pinged twice, and
/// with SQLite a ping takes as long as most statements: a hop to the connection's thread and back.
#[derive(Debug)]
struct Held {
    pool: DatabaseConnection,
    room: Semaphore,
    free: Mutex<Vec<DatabaseTransaction>>,
}

/// A connection for single statements. One that isn't given back ([`Lent::done`]) is closed: something may still be
/// under way in it, or it may be broken.
#[derive(Debug)]
pub(in crate::store) struct Lent<'a>(On<'a>);

#[derive(Debug)]
enum On<'a> {
    Pool(&'a DatabaseConnection),
    Held(DatabaseTransaction, &'a Held, SemaphorePermit<'a>),
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
        let pool = || {
            let mut pool = super::connect(location, server, Use::Read, connections, outage);
            statements.watch(&mut pool);
            pool
        };
        let held = matches!(location, Location::Sqlite(_)).then(|| {
            Arc::new(Held {
                pool: pool(),
                room: Semaphore::new(connections as usize),
                free: Mutex::default(),
            })
        });
        Self {
            pool: pool(),
            gate: Arc::new(Gate::new(connections, limits)),
            held,
            statements: statements.clone(),
        }
    }

    /// Opens as many connections as there may be, where that takes long.
    pub(in crate::store) async fn open_all(&self, connections: u32) -> Result<(), sqlx::Error> {
        super::open_all(&self.pool, connections).await
    }

    /// Waits to be admitted: nothing is read without.
    ///
    /// # Errors
    /// Too many wait.
    pub(in crate::store) async fn enter(&self) -> Result<Admitted<'_>> {
        let permit = self.gate.enter().await?;
        Ok(Admitted {
            reader: self,
            permit,
        })
    }

    /// How many wait to be admitted, and how many have been refused so far.
    pub(in crate::store) fn queued(&self) -> (usize, u64) {
        self.gate.counts()
    }

    /// From now on it is read from another of the servers.
    pub(in crate::store) fn redirect(&self, location: &Location, server: usize) {
        super::redirect(&self.pool, location, server);
    }

    /// How many connections there are. One that is held is in use for its pool, whatever it does.
    pub(in crate::store) fn connections(&self) -> Pool {
        let pool = Pool::of(&self.pool, 0);
        let held = self.held.as_ref();
        let held = held.map(|held| Pool::of(&held.pool, held.free().len()));
        pool.and(held.unwrap_or_default())
    }

    /// Carries out one statement, once it is admitted.
    pub(in crate::store) async fn all<S>(&self, select: Selector<S>) -> Result<Vec<S::Item>>
    where
        S: SelectorTrait,
    {
        let admitted = self.enter().await?;
        let lent = admitted.lend().await?;
        let rows = select.all(&lent.db()).await?;
        lent.done();
        Ok(rows)
    }

    /// Closes every connection, after what is under way in them.
    pub(in crate::store) async fn close(&self) -> Result<(), DbErr> {
        let mut closed = Ok(());
        if let Some(held) = &self.held {
            held.room.close();
            held.free().clear();
            closed = held.pool.close_by_ref().await;
        }
        closed.and(self.pool.close_by_ref().await)
    }
}

impl<'a> Admitted<'a> {
    /// Begins a transaction to read in, which keeps the admission.
    pub(in crate::store) async fn snapshot(self) -> Result<Snapshot<'a>> {
        let begin = self.reader.pool.begin();
        let tx = self.reader.statements.begin(begin).await?;
        Ok(Snapshot {
            tx,
            _permit: self.permit,
        })
    }

    /// Takes a connection for single statements, as soon as there is one. Each statement sees what is committed when
    /// it begins.
    pub(in crate::store) async fn lend(&self) -> Result<Lent<'_>, DbErr> {
        let Some(held) = &self.reader.held else {
            return Ok(Lent(On::Pool(&self.reader.pool)));
        };
        let refused = DbErr::ConnectionAcquire;
        let room = timeout(ACQUIRE_TIMEOUT, held.room.acquire()).await;
        let room = room.map_err(|_| refused(ConnAcquireErr::Timeout))?;
        let room = room.map_err(|_| refused(ConnAcquireErr::ConnectionClosed))?;
        let free = held.free().pop();
        let connection = match free {
            Some(connection) => connection,
            None => {
                let opened = hold(&held.pool).with_subscriber(NoSubscriber::default());
                opened.await?
            }
        };
        Ok(Lent(On::Held(connection, held, room)))
    }
}

impl std::ops::Deref for Snapshot<'_> {
    type Target = DatabaseTransaction;

    fn deref(&self) -> &DatabaseTransaction {
        &self.tx
    }
}

impl Held {
    fn free(&self) -> MutexGuard<'_, Vec<DatabaseTransaction>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What holds a connection is a transaction of SeaORM's, which is none of SQLite's: that is ended at once. Only
/// statements may be carried out in it: a transaction within would be a savepoint, and rolling back to one doesn't
/// end it. Nobody's trace tells of it.
async fn hold(pool: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let held = pool.begin().await?;
    held.execute_unprepared("COMMIT").await?;
    Ok(held)
}

impl Lent<'_> {
    /// What statements are carried out on.
    pub(in crate::store) fn db(&self) -> DatabaseExecutor<'_> {
        match &self.0 {
            On::Pool(pool) => (*pool).into(),
            On::Held(connection, ..) => connection.into(),
        }
    }

    /// Gives it back: all statements have ended, and none of them because of the connection.
    pub(in crate::store) fn done(self) {
        if let On::Held(connection, held, _room) = self.0
            && !held.room.is_closed()
        {
            held.free().push(connection);
        }
    }
}
