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
    pub(in crate::store) pool: DatabaseConnection,
    /// Before both: as many calls at once as there are connections.
    pub(in crate::store) gate: Arc<Gate>,
    held: Option<Arc<Held>>,
    statements: Statements,
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

    /// Begins a transaction to read in.
    pub(in crate::store) async fn begin(&self) -> Result<DatabaseTransaction, DbErr> {
        self.statements.begin(self.pool.begin()).await
    }

    /// How many connections there are. One that is held is in use for its pool, whatever it does.
    pub(in crate::store) fn connections(&self) -> Pool {
        let pool = Pool::of(&self.pool, 0);
        let held = self.held.as_ref();
        let held = held.map(|held| Pool::of(&held.pool, held.free().len()));
        pool.and(held.unwrap_or_default())
    }

    /// Takes a connection for single statements, as soon as there is one. Each statement sees what is committed when
    /// it begins.
    pub(in crate::store) async fn lend(&self) -> Result<Lent<'_>, DbErr> {
        let Some(held) = &self.held else {
            return Ok(Lent(On::Pool(&self.pool)));
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

    /// Carries out one statement, once there is room for it.
    pub(in crate::store) async fn all<S>(&self, select: Selector<S>) -> Result<Vec<S::Item>>
    where
        S: SelectorTrait,
    {
        let _room = self.gate.enter().await?;
        Ok(self.all_at_once(select).await?)
    }

    /// Carries out one statement, however many wait.
    pub(in crate::store) async fn all_at_once<S>(
        &self,
        select: Selector<S>,
    ) -> Result<Vec<S::Item>, DbErr>
    where
        S: SelectorTrait,
    {
        let lent = self.lend().await?;
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
