//! What differs between the database engines, a module each: how they are connected to and looked at, how
//! the write lock is taken, and what their errors mean.

mod contains;
mod count;
pub(super) mod mysql;
mod pool;
pub(super) mod postgres;
mod reader;
mod slots;
pub(super) mod sqlite;

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
pub(super) use count::{add_new_group, count_groups, count_in_roles};
pub(super) use pool::open_all;
pub(super) use reader::{Admitted, Reader};

use pool::{ACQUIRE_TIMEOUT, pool};

/// What connections are for; each use has its own settings of the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Transactions that change the directory.
    Write,
    /// Reads, each in a snapshot.
    Read,
    /// Keeping up with what other instances commit: short reads beside those of calls.
    Follow,
    /// Finding out whether the database is there.
    Look,
    /// Changing the schema.
    Migrate,
}

/// What connections begin with, by what they are for.
struct Sessions {
    write: &'static str,
    read: &'static str,
    follow: &'static str,
    look: &'static str,
    migrate: &'static str,
}

impl Sessions {
    fn begin(&self, purpose: Use) -> &'static str {
        match purpose {
            Use::Write => self.write,
            Use::Read => self.read,
            Use::Follow => self.follow,
            Use::Look => self.look,
            Use::Migrate => self.migrate,
        }
    }
}

/// What was found at a server.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Why this server can never be used.
    pub(super) refused: Option<String>,
    /// Why it can't be written now: it follows another one, or isn't ready.
    pub(super) not_now: Option<String>,
    /// Whether it is one of a cluster that has the same data everywhere.
    pub(super) clustered: bool,
    /// What its operator should know.
    pub(super) warnings: Vec<String>,
    /// What its clock shows, if it has one of its own.
    pub(super) time: Option<Timestamp>,
}

/// Connections to one of the servers of `location`, opened when they are needed.
pub(super) fn connect(
    location: &Location,
    server: usize,
    purpose: Use,
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

/// From now on `db` connects to another of the servers.
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

/// Looks at a server: whether it is one to work with.
pub(super) async fn look(db: &DatabaseConnection) -> Result<Found, DbErr> {
    match db.get_database_backend() {
        DbBackend::Postgres => postgres::look(db).await,
        DbBackend::MySql => mysql::look(db).await,
        _ => Ok(Found::default()),
    }
}

/// Whether an error at connecting can't get better by itself: a wrong password, an unknown database.
pub(super) fn is_final(error: &DbErr) -> bool {
    let Some(error) = server_error(error) else {
        return false;
    };
    error.try_downcast_ref().is_some_and(postgres::is_final)
        || error.try_downcast_ref().is_some_and(mysql::is_final)
}

/// Takes the next revision, and with it the directory: other writers wait until this transaction has ended,
/// on every engine, and whatever is read in it from now on is the last that was committed. `now` is the time that
/// the revision's changes get: how far it may be behind that of earlier ones is noted.
pub(super) async fn take_revision(tx: &DatabaseTransaction, now: Timestamp) -> Result<Revision> {
    use directory::Column as C;
    if tx.get_database_backend() == DbBackend::MySql {
        return mysql::take_revision(tx, now).await;
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

/// Carries out statements that write, none of which reads what the others write: in one round trip where the engine
/// takes them together.
pub(super) async fn together(
    tx: &DatabaseTransaction,
    writes: Vec<SubQueryStatement>,
) -> Result<()> {
    match tx.get_database_backend() {
        DbBackend::Postgres => postgres::together(tx, writes).await,
        DbBackend::Sqlite => {
            // A statement may be several here; places for values are counted on from one to the next.
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

/// What the server itself said, if that is what the error is.
pub(super) fn server_error(error: &DbErr) -> Option<&dyn sqlx::error::DatabaseError> {
    use sea_orm::RuntimeErr::SqlxError;
    match error {
        DbErr::Conn(SqlxError(cause))
        | DbErr::Exec(SqlxError(cause))
        | DbErr::Query(SqlxError(cause)) => cause.as_database_error(),
        _ => None,
    }
}

/// A time that a server has told in microseconds since 1970.
fn time(micros: &str) -> Option<Timestamp> {
    micros.parse().ok().map(Timestamp::from_micros)
}

/// The values of the first row of a statement's answer, as text.
async fn texts(db: &impl ConnectionTrait, sql: &str, columns: usize) -> Result<Vec<String>, DbErr> {
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let row = db.query_one_raw(statement).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound(sql.to_owned()))?;
    (0..columns)
        .map(|index| row.try_get_by_index(index))
        .collect()
}
