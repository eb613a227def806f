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

use super::{Found, Outage, Sessions, Use, pool, texts, time};
use crate::{error::Result, store::classify::Meaning};

/// The oldest version that is worked with, as `server_version_num`.
const OLDEST: i64 = 140_000;
const STATEMENT_CACHE: usize = 256;

// Nobody waits for a lock for longer than a server that stops waits for its calls. A commit is acknowledged when
// it is on the disk, whatever the server's default is. No `statement_timeout` here: a commit that waits for a
// standby and is cut short would be acknowledged without it. A writer that does nothing for 2 s in a transaction,
// such as a stopped process, is thrown out: all others wait for it, in turn and for longer than that.
const WRITE: &str = "SET default_transaction_isolation = 'read committed'; SET lock_timeout = '3s'; \
     SET idle_in_transaction_session_timeout = '2s'; \
     SELECT set_config('synchronous_commit', 'on', false) \
     WHERE current_setting('synchronous_commit') = 'off'";
const READ: &str = "SET default_transaction_isolation = 'repeatable read'; \
     SET default_transaction_read_only = on; SET statement_timeout = '30s'; \
     SET idle_in_transaction_session_timeout = '60s'";
const FOLLOW: &str = "SET default_transaction_isolation = 'repeatable read'; \
     SET default_transaction_read_only = on; SET statement_timeout = '5s'; \
     SET idle_in_transaction_session_timeout = '5s'";
const LOOK: &str = "SET statement_timeout = '10s'";
const MIGRATE: &str = "SET lock_timeout = '60s'";
const SESSIONS: Sessions = Sessions {
    write: WRITE,
    read: READ,
    follow: FOLLOW,
    look: LOOK,
    migrate: MIGRATE,
};

/// Waits until nobody else changes the schema.
pub(in crate::store) const LOCK_SCHEMA: &str = "SELECT pg_advisory_lock(hashtext('group-service'))";
/// Lets others change it.
pub(in crate::store) const UNLOCK_SCHEMA: &str =
    "SELECT pg_advisory_unlock(hashtext('group-service'))";
/// The tables that are there.
pub(in crate::store) const TABLES: &str =
    "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()";

/// Where the revisions of commits are told: see the migration that makes the trigger.
pub(in crate::store) const CHANNEL: &str = "group_service_revision";

/// Complains about a `PGSSLMODE` that the driver, which reads it where a URL has no `sslmode`, would pass over.
pub(in crate::store) fn check_environment() -> Result<(), String> {
    match std::env::var("PGSSLMODE") {
        Ok(mode) if mode.parse::<PgSslMode>().is_err() => Err(
            "PGSSLMODE must be disable, allow, prefer, require, verify-ca or verify-full"
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

pub(in crate::store) fn configured(options: PgConnectOptions) -> PgConnectOptions {
    options
        .application_name("group-service")
        .statement_cache_capacity(STATEMENT_CACHE)
        .disable_statement_logging()
}

pub(super) fn connect(
    options: &PgConnectOptions,
    purpose: Use,
    connections: u32,
    outage: &Arc<Outage>,
) -> DatabaseConnection {
    let pool = pool::<Postgres>(options.clone(), &SESSIONS, purpose, connections, outage);
    SqlxPostgresConnector::from_sqlx_postgres_pool(pool)
}

pub(super) async fn look(db: &DatabaseConnection) -> Result<Found, DbErr> {
    let sql = "SELECT current_setting('server_version_num'), current_setting('server_version'), \
               pg_is_in_recovery()::text, current_setting('transaction_read_only'), \
               current_setting('synchronous_commit'), current_setting('fsync'), \
               current_setting('full_page_writes'), \
               (extract(epoch FROM clock_timestamp()) * 1000000)::bigint::text";
    let found = texts(db, sql, 8).await?;
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
        return Ok(Found::default());
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
    Ok(Found {
        refused: (number.parse().unwrap_or(0) < OLDEST)
            .then(|| format!("PostgreSQL {version} is too old: 14 is the oldest that will do")),
        not_now: if standby == "true" {
            Some("it is a standby, which can't be written".to_owned())
        } else if read_only == "on" {
            Some("it is read-only".to_owned())
        } else {
            None
        },
        clustered: false,
        warnings,
        time: time(micros),
    })
}

/// See [`super::together`]: all but the last are common table expressions of it, which all see what was there before.
pub(super) async fn together(
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

/// What an error means, by its SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
pub(in crate::store) fn meaning(error: &PgDatabaseError) -> Meaning<'_> {
    use sqlx::error::DatabaseError;
    match error.code() {
        // unique_violation, check_violation
        "23505" | "23514" => Meaning::Broken(DatabaseError::constraint(error).unwrap_or("")),
        // serialization_failure, deadlock_detected, lock_not_available
        "40001" | "40P01" | "55P03" => Meaning::Conflict,
        // read_only_sql_transaction: a failover. query_canceled: it took too long.
        // invalid_catalog_name: the database is gone. The two are of a login that holds no longer.
        "25006" | "57014" | "3D000" | "28000" | "28P01" => Meaning::Unavailable,
        // Idle for too long within a transaction.
        "25P03" | "25P04" => Meaning::Unavailable,
        // data_corrupted, index_corrupted
        "XX001" | "XX002" => Meaning::Unavailable,
        code => match &code[..code.len().min(2)] {
            // Connection exceptions, insufficient resources, operator intervention, system and I/O errors.
            "08" | "53" | "57" | "58" => Meaning::Unavailable,
            _ => Meaning::Other,
        },
    }
}

pub(super) fn is_final(error: &PgDatabaseError) -> bool {
    // Login refused, no such database, and no right to connect to it.
    ["28000", "28P01", "3D000", "42501"].contains(&error.code())
}
