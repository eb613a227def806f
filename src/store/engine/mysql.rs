//! MariaDB, 10.6 or later, and MySQL, 8.0 or later, alone or as a Galera cluster.

use std::sync::Arc;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqlxMySqlConnector,
    Statement,
};
use sqlx::{
    ConnectOptions, MySql,
    mysql::{MySqlConnectOptions, MySqlDatabaseError},
};

use super::{
    ConnectionPurpose, Outage, ServerStatus, SessionSettings, parse_timestamp, pool, query_texts,
};
use crate::{
    domain::{Revision, RoleId, Timestamp},
    error::{Error, Result},
    store::errors::ErrorClass,
};

const STATEMENT_CACHE: usize = 256;

// The executable comments (`/*M!…*/`) are for MariaDB only. It disconnects a writer that is idle in a transaction for
// 2 s, such as a stopped process: all other writers wait for its lock, and for longer than that. MySQL has no such
// timeout.
const WRITE: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
     SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', innodb_lock_wait_timeout = 3 \
     /*M!100600 , idle_transaction_timeout = 2 */";
const READ: &str = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
     SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION' \
     /*M!100600 , max_statement_time = 30, idle_transaction_timeout = 60 */";
const SYNC: &str = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
     SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION' \
     /*M!100600 , max_statement_time = 5, idle_transaction_timeout = 5 */";
const PROBE: &str = "SET SESSION innodb_lock_wait_timeout = 1";
const MIGRATE: &str = "SET SESSION lock_wait_timeout = 60";
const SESSIONS: SessionSettings = SessionSettings {
    write: WRITE,
    read: READ,
    sync: SYNC,
    probe: PROBE,
    migrate: MIGRATE,
};

/// Waits, for at most 60 s, for this server's lock on changing the database's schema.
pub(in crate::store) const LOCK_SCHEMA: &str =
    "SELECT GET_LOCK(LEFT(CONCAT('group-service ', DATABASE()), 64), 60)";
/// Releases the lock on changing the schema.
pub(in crate::store) const UNLOCK_SCHEMA: &str =
    "SELECT RELEASE_LOCK(LEFT(CONCAT('group-service ', DATABASE()), 64))";
/// Lists the tables of the database.
pub(in crate::store) const TABLES: &str = "SELECT CONVERT(table_name USING utf8mb4) FROM information_schema.tables WHERE table_schema = DATABASE()";

pub(in crate::store) fn with_defaults(options: MySqlConnectOptions) -> MySqlConnectOptions {
    options
        .charset("utf8mb4")
        .collation("utf8mb4_bin")
        .pipes_as_concat(false)
        .no_engine_substitution(false)
        .statement_cache_capacity(STATEMENT_CACHE)
        .disable_statement_logging()
}

pub(super) fn connect(
    options: &MySqlConnectOptions,
    purpose: ConnectionPurpose,
    connections: u32,
    outage: &Arc<Outage>,
) -> DatabaseConnection {
    let pool = pool::<MySql>(options.clone(), &SESSIONS, purpose, connections, outage);
    SqlxMySqlConnector::from_sqlx_mysql_pool(pool)
}

pub(super) async fn inspect(db: &DatabaseConnection) -> Result<ServerStatus, DbErr> {
    let sql = "SELECT CONVERT(VERSION() USING utf8mb4), CAST(@@GLOBAL.read_only AS CHAR), \
               CAST(@@GLOBAL.innodb_flush_log_at_trx_commit AS CHAR), \
               CAST(@@GLOBAL.log_bin AS CHAR), CAST(@@GLOBAL.sync_binlog AS CHAR), \
               CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS CHAR)";
    let found = query_texts(db, sql, 6).await?;
    let [version, read_only, flush, log_bin, sync_binlog, micros] = &found[..] else {
        return Ok(ServerStatus::default());
    };
    let mut warnings = Vec::new();
    if flush != "1" {
        warnings.push(format!(
            "innodb_flush_log_at_trx_commit is {flush}: writes that were acknowledged are lost when the \
             server's machine fails, unless other nodes of a cluster have them; set it to 1"
        ));
    }
    if ["1", "ON"].contains(&log_bin.as_str()) && sync_binlog != "1" {
        warnings.push(format!(
            "sync_binlog is {sync_binlog}: replicas may lack writes that were acknowledged after the server's \
             machine fails; set it to 1"
        ));
    }
    let state = cluster(db).await?;
    let clustered = state.is_some();
    let not_writable = match state {
        Some(state) if state != "Synced" && state != "Donor/Desynced" => {
            Some(format!("it is not in step with its cluster: {state}"))
        }
        // The value is a number or a word, depending on the version.
        _ if !["0", "OFF"].contains(&read_only.as_str()) => Some("it is read-only".to_owned()),
        _ => None,
    };
    Ok(ServerStatus {
        unsupported: too_old(version),
        not_writable,
        clustered,
        warnings,
        time: parse_timestamp(micros),
    })
}

/// The state of a node of a Galera cluster; `None` if there is no cluster.
async fn cluster(db: &DatabaseConnection) -> Result<Option<String>, DbErr> {
    let show = |name: &str| {
        Statement::from_string(
            DbBackend::MySql,
            format!("SHOW GLOBAL STATUS LIKE '{name}'"),
        )
    };
    let Some(ready) = db.query_one_raw(show("wsrep_ready")).await? else {
        return Ok(None);
    };
    let Some(state) = db.query_one_raw(show("wsrep_local_state_comment")).await? else {
        return Ok(None);
    };
    let (ready, state): (String, String) = (ready.try_get_by_index(1)?, state.try_get_by_index(1)?);
    // Galera is built in, but not in use.
    if state == "Disabled" || state.is_empty() {
        return Ok(None);
    }
    // From now on, reads on this connection see everything that was committed on any node before.
    db.execute_unprepared("SET SESSION wsrep_sync_wait = 1")
        .await?;
    Ok(Some(if ready == "ON" {
        state
    } else {
        format!("{state}, not ready")
    }))
}

fn too_old(version: &str) -> Option<String> {
    // `10.11.6-MariaDB-0+deb12u1`, `8.0.36`; older versions of MariaDB prefix theirs with `5.5.5-`.
    let (name, oldest, number) = if version.contains("MariaDB") {
        (
            "MariaDB",
            (10, 6),
            version.strip_prefix("5.5.5-").unwrap_or(version),
        )
    } else {
        ("MySQL", (8, 0), version)
    };
    let mut parts = number
        .split(['.', '-'])
        .map(|part| part.parse().unwrap_or(0));
    let found: (u32, u32) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    (found < oldest).then(|| {
        let (major, minor) = oldest;
        format!("{name} {version} is too old: {major}.{minor} is the oldest that will do")
    })
}

/// See [`super::allocate_revision`]. An UPDATE returns no rows on these servers; `LAST_INSERT_ID` passes the new value
/// of one column in the response.
pub(super) async fn allocate_revision(
    tx: &DatabaseTransaction,
    now: Timestamp,
) -> Result<Revision> {
    let now = now.micros();
    // Assignments are evaluated from left to right, so `clock_skew` uses the previous `latest_time`.
    let sql = format!(
        "UPDATE directory SET revision = LAST_INSERT_ID(revision + 1), \
         clock_skew = GREATEST(clock_skew, latest_time - {now}), \
         latest_time = GREATEST(latest_time, {now}) WHERE id = 1"
    );
    let taken = tx.execute_unprepared(&sql).await?;
    if taken.rows_affected() == 0 {
        return Err(Error::Internal("the directory has no row".into()));
    }
    let number = i64::try_from(taken.last_insert_id());
    number
        .ok()
        .and_then(|number| Revision::parse(number).ok())
        .ok_or_else(|| Error::Internal("the revision is out of range".into()))
}

/// Counts a new group in each of its roles and in the directory, in one round trip: an UPDATE of two tables updates
/// each row once, however often it is joined.
pub(super) async fn increment_group_counts(
    tx: &DatabaseTransaction,
    roles: Vec<RoleId>,
) -> Result<()> {
    let places = vec!["?"; roles.len()].join(", ");
    let sql = format!(
        "UPDATE roles, directory SET roles.group_count = roles.group_count + 1, \
         directory.group_count = directory.group_count + 1 WHERE roles.id IN ({places})"
    );
    let ids = roles.into_iter().map(Into::into);
    let statement = Statement::from_sql_and_values(DbBackend::MySql, sql, ids);
    tx.execute_raw(statement).await?;
    Ok(())
}

/// Classifies an error by its number: <https://mariadb.com/kb/en/mariadb-error-code-reference/>,
/// <https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html>.
pub(in crate::store) fn classify(error: &MySqlDatabaseError) -> ErrorClass<'_> {
    match error.number() {
        // Duplicate key: `… for key 'NAME'`; MySQL writes `TABLE.NAME`.
        1062 => match quoted(error.message(), '\'').rsplit('.').next() {
            // Ids are unique, and revisions are allocated under the write lock. So this happens only on a Galera node:
            // another node's write has won, and its rows are visible before this transaction gets its deadlock error.
            Some("PRIMARY") => ErrorClass::Conflict,
            name => ErrorClass::ConstraintViolation(name.unwrap_or("")),
        },
        // Foreign key: a row that existed one statement earlier is gone, or the other way round. The cause is the same.
        1451 | 1452 => ErrorClass::Conflict,
        // CHECK violation: MariaDB has "CONSTRAINT `NAME` failed for …", MySQL "Check constraint 'NAME' is …".
        4025 => ErrorClass::ConstraintViolation(error.message().split('`').nth(1).unwrap_or("")),
        3819 => ErrorClass::ConstraintViolation(error.message().split('\'').nth(1).unwrap_or("")),
        // Lock wait timeout, deadlock, record changed since it was read. A Galera node reports a deadlock at the
        // commit of a transaction that conflicts with one that another node has committed.
        1205 | 1213 | 1020 => ErrorClass::Conflict,
        // Too many connections (in total, of one user), no resources, disk or table full, out of memory.
        1040 | 1203 | 1226 | 1021 | 1114 | 1037 | 1041 | 1038 => ErrorClass::Unavailable,
        // Shutdown, connection killed, query interrupted, statement timeout, idle timeout, connection lost.
        1053 | 1927 | 1317 | 1969 | 3024 | 4031 | 1152..=1161 => ErrorClass::Unavailable,
        // Read-only after a failover. Node not in sync with its cluster, or without a quorum.
        1290 | 1792 | 1836 | 1047 | 1180 | 3100..=3101 => ErrorClass::Unavailable,
        // Login no longer valid, database dropped, damaged files, I/O errors.
        1044 | 1045 | 1049 | 1698 | 1030 | 1034 | 1026 | 1015 | 1016 | 1712 => {
            ErrorClass::Unavailable
        }
        _ => ErrorClass::Other,
    }
}

/// The text between the last two `quote` characters.
fn quoted(message: &str, quote: char) -> &str {
    message.rsplit(quote).nth(1).unwrap_or("")
}

pub(super) fn is_permanent(error: &MySqlDatabaseError) -> bool {
    // Login rejected, no such database, and this host may not connect.
    [1044, 1045, 1049, 1130, 1698, 1251, 1396].contains(&error.number())
}
