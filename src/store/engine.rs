//! Everything that differs between the database engines, one module per engine: connecting, inspecting a server,
//! taking the write lock, and classifying errors.

mod contains;
mod group_counts;
pub(super) mod mysql;
mod pool;
pub(super) mod postgres;
mod read_pool;
pub(super) mod sqlite;
mod sqlite_read_pool;

use std::sync::Arc;

use super::{location::Location, outage::Outage};
use crate::{
    domain::{Revision, Timestamp},
    entity::directory,
    error::{Error, Result},
};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, EntityTrait,
    Statement,
    sea_query::{Expr, ExprTrait, SubQueryStatement},
};

pub(super) use contains::contains;
pub(super) use group_counts::{
    add_to_group_count, add_to_role_group_counts, insert_group_and_count,
};
pub(super) use pool::warm_up;
pub(super) use read_pool::{ReadPermit, ReadPool};

use pool::{ACQUIRE_TIMEOUT, pool};

/// What a connection is used for; each purpose has its own session settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionPurpose {
    /// Transactions that change the directory.
    Write,
    /// Reads of calls: read-only transactions and single statements.
    Read,
    /// Short reads of what other instances commit. They are separate, so that the reads of calls can't delay them.
    Sync,
    /// Availability probes.
    Probe,
    /// Schema migrations.
    Migrate,
}

/// The SQL that a new connection executes, by purpose.
struct SessionSettings {
    write: &'static str,
    read: &'static str,
    sync: &'static str,
    probe: &'static str,
    migrate: &'static str,
}

impl SessionSettings {
    fn for_purpose(&self, purpose: ConnectionPurpose) -> &'static str {
        match purpose {
            ConnectionPurpose::Write => self.write,
            ConnectionPurpose::Read => self.read,
            ConnectionPurpose::Sync => self.sync,
            ConnectionPurpose::Probe => self.probe,
            ConnectionPurpose::Migrate => self.migrate,
        }
    }
}

/// The result of inspecting a server.
#[derive(Debug, Default)]
pub(super) struct ServerStatus {
    /// Why this server can never be used, such as a version that is too old.
    pub(super) unsupported: Option<String>,
    /// Why it can't be written for now: it is a standby or read-only, or isn't in sync with its cluster.
    pub(super) not_writable: Option<String>,
    /// Whether it is a node of a cluster whose nodes all hold the same data.
    pub(super) clustered: bool,
    /// Warnings about its settings, for the operator.
    pub(super) warnings: Vec<String>,
    /// The time by the server's clock; `None` for SQLite, which uses this host's clock.
    pub(super) time: Option<Timestamp>,
}

/// Creates a pool of connections to one of the servers of `location`; they are opened on demand.
pub(super) fn connect(
    location: &Location,
    server: usize,
    purpose: ConnectionPurpose,
    connections: u32,
    outage: &Arc<Outage>,
) -> DatabaseConnection {
    match location {
        Location::Sqlite(path) => sqlite::connect(path, purpose, connections),
        Location::Postgres(servers) => {
            postgres::connect(&servers.options[server], purpose, connections, outage)
        }
        Location::MySql(servers) => {
            mysql::connect(&servers.options[server], purpose, connections, outage)
        }
    }
}

/// Makes `db` open its new connections to another of the servers.
pub(super) fn redirect(db: &DatabaseConnection, location: &Location, server: usize) {
    match location {
        Location::Sqlite(_) => {}
        Location::Postgres(servers) => db
            .get_postgres_connection_pool()
            .set_connect_options(servers.options[server].clone()),
        Location::MySql(servers) => db
            .get_mysql_connection_pool()
            .set_connect_options(servers.options[server].clone()),
    }
}

/// Inspects a server's version, role and settings, to find out whether it can be used.
pub(super) async fn inspect(db: &DatabaseConnection) -> Result<ServerStatus, DbErr> {
    match db.get_database_backend() {
        DbBackend::Postgres => postgres::inspect(db).await,
        DbBackend::MySql => mysql::inspect(db).await,
        _ => Ok(ServerStatus::default()),
    }
}

/// Whether a connection error is permanent, such as a wrong password or an unknown database.
pub(super) fn is_permanent(error: &DbErr) -> bool {
    let Some(error) = server_error(error) else {
        return false;
    };
    error.try_downcast_ref().is_some_and(postgres::is_permanent)
        || error.try_downcast_ref().is_some_and(mysql::is_permanent)
}

/// Allocates the next revision, and takes the write lock with it: on every engine, other writers wait until this
/// transaction ends, and everything that it reads from now on is the latest committed state. `now` is the time of the
/// revision's changes; if it is before that of an earlier revision, the difference is recorded as clock skew.
pub(super) async fn allocate_revision(
    tx: &DatabaseTransaction,
    now: Timestamp,
) -> Result<Revision> {
    use directory::Column as C;
    if tx.get_database_backend() == DbBackend::MySql {
        return mysql::allocate_revision(tx, now).await;
    }
    let behind = || Expr::col(C::LatestTime).sub(now.micros());
    let skew = Expr::case(behind().gt(Expr::col(C::ClockSkew)), behind());
    let latest = Expr::case(Expr::col(C::LatestTime).lt(now.micros()), now.micros());
    let taken = directory::Entity::update_many()
        .col_expr(C::Revision, Expr::col(C::Revision).add(1))
        .col_expr(C::ClockSkew, skew.finally(Expr::col(C::ClockSkew)).into())
        .col_expr(
            C::LatestTime,
            latest.finally(Expr::col(C::LatestTime)).into(),
        )
        .exec_with_returning(tx)
        .await?;
    let revision = taken.first().map(|row| row.revision);
    revision.ok_or_else(|| Error::Internal("the directory has no row".into()))
}

/// Executes write statements, none of which reads what another one writes, in one round trip where the engine
/// supports that.
pub(super) async fn execute_all(
    tx: &DatabaseTransaction,
    writes: Vec<SubQueryStatement>,
) -> Result<()> {
    match tx.get_database_backend() {
        DbBackend::Postgres => postgres::execute_all(tx, writes).await,
        DbBackend::Sqlite => {
            // One string may hold several SQLite statements; sqlx binds the values to their placeholders consecutively.
            let (mut sql, mut values) = (String::new(), Vec::new());
            for write in &writes {
                let Statement {
                    sql: one,
                    values: its,
                    ..
                } = build(DbBackend::Sqlite, write);
                sql = if sql.is_empty() {
                    one
                } else {
                    sql + "; " + &one
                };
                values.extend(its.into_iter().flatten());
            }
            tx.execute_raw(Statement::from_sql_and_values(
                DbBackend::Sqlite,
                sql,
                values,
            ))
            .await?;
            Ok(())
        }
        backend => {
            for write in &writes {
                tx.execute_raw(build(backend, write)).await?;
            }
            Ok(())
        }
    }
}

fn build(backend: DbBackend, statement: &SubQueryStatement) -> Statement {
    match statement {
        SubQueryStatement::SelectStatement(statement) => backend.build(statement),
        SubQueryStatement::InsertStatement(statement) => backend.build(statement),
        SubQueryStatement::UpdateStatement(statement) => backend.build(statement),
        SubQueryStatement::DeleteStatement(statement) => backend.build(statement),
        SubQueryStatement::WithStatement(statement) => backend.build(statement),
    }
}

/// The error that the server reported, if there is one.
pub(super) fn server_error(error: &DbErr) -> Option<&dyn sqlx::error::DatabaseError> {
    use sea_orm::RuntimeErr::SqlxError;
    match error {
        DbErr::Conn(SqlxError(cause))
        | DbErr::Exec(SqlxError(cause))
        | DbErr::Query(SqlxError(cause)) => cause.as_database_error(),
        _ => None,
    }
}

/// Parses a server's time, in microseconds since 1970.
fn parse_timestamp(micros: &str) -> Option<Timestamp> {
    micros.parse().ok().map(Timestamp::from_micros)
}

/// The first `columns` values, as text, of the first row that the query returns.
async fn query_texts(
    db: &impl ConnectionTrait,
    sql: &str,
    columns: usize,
) -> Result<Vec<String>, DbErr> {
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let row = db.query_one_raw(statement).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound(sql.to_owned()))?;
    (0..columns)
        .map(|index| row.try_get_by_index(index))
        .collect()
}
