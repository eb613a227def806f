//! The connections for reads of a SQLite file.

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

use super::sqlite::{self, StatementDeadline};
use crate::store::metrics::{PoolUsage, StatementMetrics};

/// One pair of connections for each read that is admitted at once.
#[derive(Debug)]
pub(super) struct SqliteReadPool {
    free: Mutex<Vec<ConnectionPair>>,
    closed: AtomicBool,
    pools: Vec<DatabaseConnection>,
}

/// The connections of one read at a time: one for a transaction and one for single statements, each in a pool of its
/// own, so that it is known which connections a deadline applies to.
///
/// The connection for single statements is held outside its pool between reads. A connection that is returned to a pool
/// is pinged twice, and with SQLite a ping takes as long as most statements: a hop to the connection's thread and back.
#[derive(Debug)]
pub(super) struct ConnectionPair {
    limit: StatementDeadline,
    transactions: DatabaseConnection,
    statements: DatabaseConnection,
    held: Option<DatabaseTransaction>,
}

impl SqliteReadPool {
    pub(super) fn new(path: &Path, slots: u32, statements: &StatementMetrics) -> Self {
        let pair = || {
            let limit = StatementDeadline::new();
            let pool = || {
                let mut pool = sqlite::connect_with_deadline(path, &limit);
                statements.instrument(&mut pool);
                pool
            };
            ConnectionPair {
                transactions: pool(),
                statements: pool(),
                held: None,
                limit,
            }
        };
        let free: Vec<_> = std::iter::repeat_with(pair).take(slots as usize).collect();
        let pools = |pair: &ConnectionPair| [pair.transactions.clone(), pair.statements.clone()];
        Self {
            pools: free.iter().flat_map(pools).collect(),
            free: Mutex::new(free),
            closed: AtomicBool::new(false),
        }
    }

    /// Takes a free pair: there is one for each admitted read.
    pub(super) fn acquire(&self) -> Result<ConnectionPair, DbErr> {
        // The pair that was released last, so that as few connections as possible are opened.
        let pair = self.free().pop();
        let pair = pair.filter(|_| !self.closed.load(Ordering::Relaxed));
        let pair = pair.ok_or_else(closed_error)?;
        pair.limit.begin();
        Ok(pair)
    }

    /// Returns a pair on which nothing runs.
    pub(super) fn release(&self, mut pair: ConnectionPair) {
        let mut free = self.free();
        if self.closed.load(Ordering::Relaxed) {
            pair.held = None;
        }
        free.push(pair);
    }

    /// How many connections are idle and busy. To its pool, a held connection is busy even while its pair is free.
    pub(super) fn connections(&self) -> PoolUsage {
        let held = self
            .free()
            .iter()
            .filter(|pair| pair.held.is_some())
            .count();
        let pools = self.pools.iter().map(PoolUsage::from_pool);
        let PoolUsage { idle, busy } = pools.fold(PoolUsage::default(), PoolUsage::add);
        PoolUsage {
            idle: idle + held,
            busy: busy.saturating_sub(held),
        }
    }

    /// Closes every connection after the statements that run on it have ended.
    pub(super) async fn close(&self) -> Result<(), DbErr> {
        {
            let mut free = self.free();
            self.closed.store(true, Ordering::Relaxed);
            free.iter_mut().for_each(|pair| pair.held = None);
        }
        let mut closed = Ok(());
        for pool in &self.pools {
            closed = closed.and(pool.close_by_ref().await);
        }
        closed
    }

    fn free(&self) -> MutexGuard<'_, Vec<ConnectionPair>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionPair {
    /// The pool for transactions.
    pub(super) fn transactions(&self) -> &DatabaseConnection {
        &self.transactions
    }

    /// The connection for single statements. Each sees the state that is committed when it begins.
    pub(super) async fn statement_connection(&mut self) -> Result<&DatabaseTransaction, DbErr> {
        let held = match self.held.take() {
            Some(held) => held,
            None => {
                check_out(&self.statements)
                    .with_subscriber(NoSubscriber::default())
                    .await?
            }
        };
        Ok(self.held.insert(held))
    }

    /// Interrupts running statements, and closes the connection for single statements if it may be broken.
    pub(super) async fn interrupt(&mut self, broken: bool) {
        self.limit.interrupt();
        if let Some(held) = self.held.take_if(|_| broken) {
            // The rollback runs after the interrupted statement, and fails because there is no transaction.
            let _ = held.rollback().await;
        }
    }
}

/// The error of a pool that has been closed.
pub(super) fn closed_error() -> DbErr {
    DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)
}

/// Takes a connection out of its pool, by a SeaORM transaction whose SQLite transaction is ended at once. Only single
/// statements may be executed in it: a nested transaction would be a savepoint, and rolling back to one doesn't end it.
/// The caller keeps these two statements out of traces.
async fn check_out(pool: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let held = pool.begin().await?;
    held.execute_unprepared("COMMIT").await?;
    Ok(held)
}
