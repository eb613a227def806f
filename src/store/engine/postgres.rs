//! PostgreSQL, 14 or later.

use std::sync::Arc;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    SqlxPostgresConnector,
    sea_query::{CommonTableExpression, SubQueryStatement, WithClause},
};
use sqlx::{
    ConnectOptions, Postgres,
    postgres::{PgConnectOptions, PgDatabaseError, PgSslMode},
};

use super::{
    ConnectionPurpose, Outage, ServerStatus, SessionSettings, parse_timestamp, pool, query_texts,
};
use crate::{error::Result, store::errors::ErrorClass};

/// The oldest supported version, as `server_version_num`.
const OLDEST: i64 = 140_000;
const STATEMENT_CACHE: usize = 256;

// `lock_timeout` is shorter than the drain timeout of a shutdown. A commit is acknowledged only when it is on disk,
// whatever the server's default is. There is no `statement_timeout`: a commit that is cancelled while it waits for a
// synchronous standby would be acknowledged without the standby. A writer that is idle in a transaction for 2 s, such
// as a stopped process, is disconnected: all other writers wait for its lock, and for longer than that.
const WRITE: &str = "SET default_transaction_isolation = 'read committed'; SET lock_timeout = '3s'; \
     SET idle_in_transaction_session_timeout = '2s'; \
     SELECT set_config('synchronous_commit', 'on', false) \
     WHERE current_setting('synchronous_commit') = 'off'";
const READ: &str = "SET default_transaction_isolation = 'repeatable read'; \
     SET default_transaction_read_only = on; SET statement_timeout = '30s'; \
     SET idle_in_transaction_session_timeout = '60s'";
const SYNC: &str = "SET default_transaction_isolation = 'repeatable read'; \
     SET default_transaction_read_only = on; SET statement_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '5s'";
const PROBE: &str = "SET statement_timeout = '10s'";
const MIGRATE: &str = "SET lock_timeout = '60s'";
const SESSIONS: SessionSettings = SessionSettings {
    write: WRITE,
    read: READ,
    sync: SYNC,
    probe: PROBE,
    migrate: MIGRATE,
};

/// Waits for the lock on changing the schema.
pub(in crate::store) const LOCK_SCHEMA: &str = "SELECT pg_advisory_lock(hashtext('group-service'))";
/// Releases the lock on changing the schema.
pub(in crate::store) const UNLOCK_SCHEMA: &str =
    "SELECT pg_advisory_unlock(hashtext('group-service'))";
/// Lists the tables of the database.
pub(in crate::store) const TABLES: &str =
    "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()";

/// The `NOTIFY` channel for the revisions of commits: see the migration that creates the trigger.
pub(in crate::store) const CHANNEL: &str = "group_service_revision";

/// Rejects an invalid `PGSSLMODE`. The driver reads it where a URL has no `sslmode`, and would ignore such a value.
pub(in crate::store) fn check_environment() -> Result<(), String> {
    match std::env::var("PGSSLMODE") {
        Ok(mode) if mode.parse::<PgSslMode>().is_err() => Err(
            "PGSSLMODE must be disable, allow, prefer, require, verify-ca or verify-full"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

pub(in crate::store) fn with_defaults(options: PgConnectOptions) -> PgConnectOptions {
    options
        .application_name("group-service")
        .statement_cache_capacity(STATEMENT_CACHE)
        .disable_statement_logging()
}

pub(super) fn connect(
    options: &PgConnectOptions,
    purpose: ConnectionPurpose,
    connections: u32,
    outage: &Arc<Outage>,
) -> DatabaseConnection {
    let pool = pool::<Postgres>(options.clone(), &SESSIONS, purpose, connections, outage);
    SqlxPostgresConnector::from_sqlx_postgres_pool(pool)
}

pub(super) async fn inspect(db: &DatabaseConnection) -> Result<ServerStatus, DbErr> {
    let sql = "SELECT current_setting('server_version_num'), current_setting('server_version'), \
               pg_is_in_recovery()::text, current_setting('transaction_read_only'), \
               current_setting('synchronous_commit'), current_setting('fsync'), \
               current_setting('full_page_writes'), \
               (extract(epoch FROM clock_timestamp()) * 1000000)::bigint::text";
    let found = query_texts(db, sql, 8).await?;
    let [
        number,
        version,
        standby,
        read_only,
        synchronous_commit,
        fsync,
        full_page_writes,
        micros,
    ] = &found[..]
    else {
        return Ok(ServerStatus::default());
    };
    let mut warnings = Vec::new();
    if synchronous_commit == "off" {
        warnings.push(
            "synchronous_commit is off: it is switched on for what group-service writes".to_owned(),
        );
    }
    for (setting, value) in [("fsync", fsync), ("full_page_writes", full_page_writes)] {
        if value == "off" {
            warnings.push(format!(
                "{setting} is off: writes that were acknowledged are lost when the server's machine fails"
            ));
        }
    }
    Ok(ServerStatus {
        unsupported: (number.parse().unwrap_or(0) < OLDEST)
            .then(|| format!("PostgreSQL {version} is too old: 14 is the oldest that will do")),
        not_writable: if standby == "true" {
            Some("it is a standby, which can't be written".to_owned())
        } else if read_only == "on" {
            Some("it is read-only".to_owned())
        } else {
            None
        },
        clustered: false,
        warnings,
        time: parse_timestamp(micros),
    })
}

/// See [`super::execute_all`]. All statements but the last become common table expressions of the last; all of them see
/// the state before it.
pub(super) async fn execute_all(
    tx: &DatabaseTransaction,
    mut writes: Vec<SubQueryStatement>,
) -> Result<()> {
    let Some(last) = writes.pop() else {
        return Ok(());
    };
    if writes.is_empty() {
        tx.execute_raw(super::build(DbBackend::Postgres, &last))
            .await?;
        return Ok(());
    }
    let mut with = WithClause::new();
    for (write, number) in writes.into_iter().zip(1..) {
        with.cte(
            CommonTableExpression::new()
                .table_name(format!("write_{number}"))
                .query(write)
                .to_owned(),
        );
    }
    tx.execute(&with.query(last)).await?;
    Ok(())
}

/// Classifies an error by its SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
pub(in crate::store) fn classify(error: &PgDatabaseError) -> ErrorClass<'_> {
    use sqlx::error::DatabaseError;
    match error.code() {
        // unique_violation, check_violation
        "23505" | "23514" => {
            ErrorClass::ConstraintViolation(DatabaseError::constraint(error).unwrap_or(""))
        }
        // serialization_failure, deadlock_detected, lock_not_available
        "40001" | "40P01" | "55P03" => ErrorClass::Conflict,
        // read_only_sql_transaction: after a failover. query_canceled: statement timeout. invalid_catalog_name: the
        // database was dropped. 28000 and 28P01: the login is no longer valid.
        "25006" | "57014" | "3D000" | "28000" | "28P01" => ErrorClass::Unavailable,
        // idle_in_transaction_session_timeout, transaction_timeout
        "25P03" | "25P04" => ErrorClass::Unavailable,
        // data_corrupted, index_corrupted
        "XX001" | "XX002" => ErrorClass::Unavailable,
        code => match &code[..code.len().min(2)] {
            // Connection exceptions, insufficient resources, operator intervention, system and I/O errors.
            "08" | "53" | "57" | "58" => ErrorClass::Unavailable,
            _ => ErrorClass::Other,
        },
    }
}

pub(super) fn is_permanent(error: &PgDatabaseError) -> bool {
    // Login rejected, no such database, and no privilege to connect to it.
    ["28000", "28P01", "3D000", "42501"].contains(&error.code())
}
