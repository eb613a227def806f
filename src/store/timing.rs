//! How long statements take, and how many connections there are: for whoever looks on.

use std::time::Instant;

use prometheus_client::metrics::histogram::Histogram;
use sea_orm::{DatabaseConnection, DatabaseTransaction, DbBackend, DbErr};

use super::Db;

/// Upper bounds in seconds: a statement on a file takes as long as the first, one over a network as long as those
/// in the middle, and one that waits for others as long as the last.
const BUCKETS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 10.0,
];

/// How long the statements of calls took, by what they do. Probes aren't among them.
#[derive(Clone, Debug)]
pub struct Statements {
    begin: Histogram,
    commit: Histogram,
    select: Histogram,
    insert: Histogram,
    update: Histogram,
    delete: Histogram,
    other: Histogram,
}

impl Default for Statements {
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

impl Statements {
    /// Each operation, with its times.
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

    /// Measures what is carried out on these connections.
    pub(super) fn watch(&self, db: &mut DatabaseConnection) {
        let statements = self.clone();
        db.set_metric_callback(move |info| {
            let took = info.elapsed.as_secs_f64();
            statements.of(&info.statement.sql).observe(took);
        });
    }

    /// Begins a transaction. The wait for a connection is part of it.
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

    /// By its first word: what begins with common table expressions, or isn't written by a query's builder, is none
    /// of those.
    fn of(&self, sql: &str) -> &Histogram {
        match sql.get(..6) {
            Some("SELECT") => &self.select,
            Some("INSERT") => &self.insert,
            Some("UPDATE") => &self.update,
            Some("DELETE") => &self.delete,
            _ => &self.other,
        }
    }
}

/// How many connections there are for one purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pool {
    /// Those that wait to be used.
    pub idle: usize,
    /// Those that are in use.
    pub busy: usize,
}

impl Pool {
    /// Those of a pool.
    pub(super) fn of(db: &DatabaseConnection) -> Self {
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
        // The numbers are of two moments.
        Self {
            idle,
            busy: size.saturating_sub(idle),
        }
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            idle: self.idle + other.idle,
            busy: self.busy + other.busy,
        }
    }
}

impl Db {
    /// How long statements took since the start.
    #[must_use]
    pub fn statements(&self) -> &Statements {
        &self.statements
    }

    /// How many connections there are, by what they are for.
    #[must_use]
    pub fn connections(&self) -> Vec<(&'static str, Pool)> {
        let replica = self.replica.as_ref();
        let replica = replica.map(|replica| ("replica", replica.db.connections()));
        [
            ("read", self.reader.connections()),
            ("write", Pool::of(&self.writer)),
        ]
        .into_iter()
        .chain(replica)
        .collect()
    }

    /// Whether the database is there, as far as is known.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.health.check().is_ok()
    }
}
