//! The connections to a SQLite file that calls read on.

use std::{
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use sea_orm::{
    ConnAcquireErr, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr,
    TransactionTrait,
};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::sqlite::{self, TimeLimit};
use crate::store::timing::{Pool, Statements};

/// As many slots as reads are admitted at once.
#[derive(Debug)]
pub(super) struct Slots {
    free: Mutex<Vec<Slot>>,
    closed: AtomicBool,
    pools: Vec<DatabaseConnection>,
}

/// What one read at a time is carried out on: a connection for a transaction, and one for single statements, each in a
/// pool of its own, so that it is known which connection a time limit is of.
///
/// That for single statements is kept out of its pool. Whatever goes back to a pool is pinged twice, and with SQLite a
/// ping takes as long as most statements: a hop to the connection's thread and back.
#[derive(Debug)]
pub(super) struct Slot {
    limit: TimeLimit,
    transactions: DatabaseConnection,
    statements: DatabaseConnection,
    held: Option<DatabaseTransaction>,
}

impl Slots {
    pub(super) fn new(path: &Path, slots: u32, statements: &Statements) -> Self {
        let slot = || {
            let limit = TimeLimit::new();
            let pool = || {
                let mut pool = sqlite::connect_limited(path, &limit);
                statements.watch(&mut pool);
                pool
            };
            Slot {
                transactions: pool(),
                statements: pool(),
                held: None,
                limit,
            }
        };
        let free: Vec<_> = std::iter::repeat_with(slot).take(slots as usize).collect();
        let pools = |slot: &Slot| [slot.transactions.clone(), slot.statements.clone()];
        Self {
            pools: free.iter().flat_map(pools).collect(),
            free: Mutex::new(free),
            closed: AtomicBool::new(false),
        }
    }

    /// Takes a slot: there is one for each read that is admitted.
    pub(super) fn take(&self) -> Result<Slot, DbErr> {
        // The last one that was given back: the fewest connections are opened.
        let slot = self.free().pop();
        let slot = slot.filter(|_| !self.closed.load(Ordering::Relaxed));
        let slot = slot.ok_or_else(closed)?;
        slot.limit.begin();
        Ok(slot)
    }

    /// Gives a slot back that nothing is under way in.
    pub(super) fn give_back(&self, mut slot: Slot) {
        let mut free = self.free();
        if self.closed.load(Ordering::Relaxed) {
            slot.held = None;
        }
        free.push(slot);
    }

    /// How many connections there are. One that is held is in use for its pool, whatever it does.
    pub(super) fn connections(&self) -> Pool {
        let held = self
            .free()
            .iter()
            .filter(|slot| slot.held.is_some())
            .count();
        let pools = self.pools.iter().map(Pool::of);
        let Pool { idle, busy } = pools.fold(Pool::default(), Pool::and);
        Pool {
            idle: idle + held,
            busy: busy.saturating_sub(held),
        }
    }

    /// Closes every connection, after what is under way in them.
    pub(super) async fn close(&self) -> Result<(), DbErr> {
        {
            let mut free = self.free();
            self.closed.store(true, Ordering::Relaxed);
            free.iter_mut().for_each(|slot| slot.held = None);
        }
        let mut closed = Ok(());
        for pool in &self.pools {
            closed = closed.and(pool.close_by_ref().await);
        }
        closed
    }

    fn free(&self) -> MutexGuard<'_, Vec<Slot>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Slot {
    /// The connections for transactions.
    pub(super) fn transactions(&self) -> &DatabaseConnection {
        &self.transactions
    }

    /// The connection for single statements, each of which sees what is committed when it begins.
    pub(super) async fn held(&mut self) -> Result<&DatabaseTransaction, DbErr> {
        let held = match self.held.take() {
            Some(held) => held,
            None => {
                hold(&self.statements)
                    .with_subscriber(NoSubscriber::default())
                    .await?
            }
        };
        Ok(self.held.insert(held))
    }

    /// Ends what is under way, and closes the connection for single statements if it may be broken.
    pub(super) async fn interrupt(&mut self, broken: bool) {
        self.limit.interrupt();
        if let Some(held) = self.held.take_if(|_| broken) {
            // It fails, behind what was under way: there is no transaction.
            let _ = held.rollback().await;
        }
    }
}

/// That there are no connections any more.
pub(super) fn closed() -> DbErr {
    DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)
}

/// What holds a connection is a transaction of SeaORM's, which is none of SQLite's: that is ended at once. Only
/// statements may be carried out in it: a transaction within would be a savepoint, and rolling back to one doesn't
/// end it. Nobody's trace tells of it.
async fn hold(pool: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let held = pool.begin().await?;
    held.execute_unprepared("COMMIT").await?;
    Ok(held)
}
