//! Statement durations and connection counts, for the metrics.

use std::time::Instant;

use prometheus_client::metrics::histogram::Histogram;
use sea_orm::{DatabaseConnection, DatabaseTransaction, DbBackend, DbErr};

use super::Db;

/// Upper bounds in seconds: the first ones for statements on a file, those in the middle for statements over a network,
/// and the last ones for statements that wait for others.
const BUCKETS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 10.0,
];

/// Durations of the statements of calls, by operation. Probes aren't included.
#[derive(Clone, Debug)]
pub struct StatementMetrics {
    begin: Histogram,
    commit: Histogram,
    select: Histogram,
    insert: Histogram,
    update: Histogram,
    delete: Histogram,
    other: Histogram,
}

impl Default for StatementMetrics {
    fn default() -> Self {
        let histogram = || Histogram::new(BUCKETS);
        Self {
            begin: histogram(),
            commit: histogram(),
            select: histogram(),
            insert: histogram(),
            update: histogram(),
            delete: histogram(),
            other: histogram(),
        }
    }
}

impl StatementMetrics {
    /// Each operation with its histogram.
    #[must_use]
    pub fn all(&self) -> [(&'static str, &Histogram); 7] {
        let Self {
            begin,
            commit,
            select,
            insert,
            update,
            delete,
            other,
        } = self;
        [
            ("begin", begin),
            ("commit", commit),
            ("select", select),
            ("insert", insert),
            ("update", update),
            ("delete", delete),
            ("other", other),
        ]
    }

    /// Measures the statements on these connections.
    pub(super) fn instrument(&self, db: &mut DatabaseConnection) {
        let statements = self.clone();
        db.set_metric_callback(move |info| {
            let took = info.elapsed.as_secs_f64();
            statements.histogram_for(&info.statement.sql).observe(took);
        });
    }

    /// Begins a transaction. The duration includes the wait for a connection.
    pub(super) async fn begin(
        &self,
        begin: impl Future<Output = Result<DatabaseTransaction, DbErr>>,
    ) -> Result<DatabaseTransaction, DbErr> {
        let began = Instant::now();
        let begun = begin.await;
        self.begin.observe(began.elapsed().as_secs_f64());
        begun
    }

    /// Commits a transaction.
    pub(super) async fn commit(&self, tx: DatabaseTransaction) -> Result<(), DbErr> {
        let began = Instant::now();
        let committed = tx.commit().await;
        self.commit.observe(began.elapsed().as_secs_f64());
        committed
    }

    /// Chooses by the first keyword. Other statements, such as those that begin with a common table expression, count
    /// as `other`.
    fn histogram_for(&self, sql: &str) -> &Histogram {
        match sql.get(..6) {
            Some("SELECT") => &self.select,
            Some("INSERT") => &self.insert,
            Some("UPDATE") => &self.update,
            Some("DELETE") => &self.delete,
            _ => &self.other,
        }
    }
}

/// Number of connections of one pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolUsage {
    /// Idle connections.
    pub idle: usize,
    /// Connections in use.
    pub busy: usize,
}

impl PoolUsage {
    /// The connections of a pool.
    pub(super) fn from_pool(db: &DatabaseConnection) -> Self {
        let (size, idle) = match db.get_database_backend() {
            DbBackend::Postgres => {
                let pool = db.get_postgres_connection_pool();
                (pool.size(), pool.num_idle())
            }
            DbBackend::MySql => {
                let pool = db.get_mysql_connection_pool();
                (pool.size(), pool.num_idle())
            }
            _ => {
                let pool = db.get_sqlite_connection_pool();
                (pool.size(), pool.num_idle())
            }
        };
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        // The two numbers are read at different times, so `idle` may exceed `size`.
        Self {
            idle,
            busy: size.saturating_sub(idle),
        }
    }

    pub(super) fn add(self, other: Self) -> Self {
        Self {
            idle: self.idle + other.idle,
            busy: self.busy + other.busy,
        }
    }
}

impl Db {
    /// Statement durations since the start.
    #[must_use]
    pub fn statements(&self) -> &StatementMetrics {
        &self.statements
    }

    /// Number of connections, by purpose.
    #[must_use]
    pub fn connections(&self) -> Vec<(&'static str, PoolUsage)> {
        let replica = self.replica.as_ref();
        let replica = replica.map(|replica| ("replica", replica.db.connections()));
        [
            ("read", self.reader.connections()),
            ("write", PoolUsage::from_pool(&self.writer)),
        ]
        .into_iter()
        .chain(replica)
        .collect()
    }

    /// Whether the last probe reached the database.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.health.check().is_ok()
    }
}
