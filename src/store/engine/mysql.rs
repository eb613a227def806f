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

use super::{Found, Outage, Sessions, Use, pool, texts, time};
use crate::{
    domain::{Revision, RoleId, Timestamp},
    error::{Error, Result},
    store::classify::Meaning,
};

const STATEMENT_CACHE: usize = 256;

// The comments are for MariaDB alone: it throws out a writer that does nothing for 2 s in a transaction, such as a
// stopped process, as all others wait for it, in turn and for longer than that. MySQL can't.
const WRITE: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
     SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', innodb_lock_wait_timeout = 3 \
     /*M!100600 , idle_transaction_timeout = 2 */";
const READ: &str = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
     SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION' \
     /*M!100600 , max_statement_time = 30, idle_transaction_timeout = 60 */";
const FOLLOW: &str = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; \
     SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION' \
     /*M!100600 , max_statement_time = 5, idle_transaction_timeout = 5 */";
const LOOK: &str = "SET SESSION innodb_lock_wait_timeout = 1";
const MIGRATE: &str = "SET SESSION lock_wait_timeout = 60";
const SESSIONS: Sessions = Sessions {
    write: WRITE,
    read: READ,
    follow: FOLLOW,
    look: LOOK,
    migrate: MIGRATE,
};

/// Waits until nobody else on this server changes the schema.
pub(in crate::store) const LOCK_SCHEMA: &str =
    "SELECT GET_LOCK(LEFT(CONCAT('group-service ', DATABASE()), 64), 60)";
/// Lets others change it.
pub(in crate::store) const UNLOCK_SCHEMA: &str =
    "SELECT RELEASE_LOCK(LEFT(CONCAT('group-service ', DATABASE()), 64))";
/// The tables that are there.
pub(in crate::store) const TABLES: &str = "SELECT CONVERT(table_name USING utf8mb4) FROM information_schema.tables WHERE table_schema = DATABASE()";

pub(in crate::store) fn configured(options: MySqlConnectOptions) -> MySqlConnectOptions {
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
    purpose: Use,
    connections: u32,
    outage: &Arc<Outage>,
) -> DatabaseConnection {
    let pool = pool::<MySql>(options.clone(), &SESSIONS, purpose, connections, outage);
    SqlxMySqlConnector::from_sqlx_mysql_pool(pool)
}

pub(super) async fn look(db: &DatabaseConnection) -> Result<Found, DbErr> {
    let sql = "SELECT CONVERT(VERSION() USING utf8mb4), CAST(@@GLOBAL.read_only AS CHAR), \
               CAST(@@GLOBAL.innodb_flush_log_at_trx_commit AS CHAR), \
               CAST(@@GLOBAL.log_bin AS CHAR), CAST(@@GLOBAL.sync_binlog AS CHAR), \
               CAST(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) AS CHAR)";
    let found = texts(db, sql, 6).await?;
    let [version, read_only, flush, log_bin, sync_binlog, micros] = &found[..] else {
        return Ok(Found::default());
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
    let not_now = match state {
        Some(state) if state != "Synced" && state != "Donor/Desynced" => {
            Some(format!("it is not in step with its cluster: {state}"))
        }
        // A number or a word, depending on the version.
        _ if !["0", "OFF"].contains(&read_only.as_str()) => Some("it is read-only".to_owned()),
        _ => None,
    };
    Ok(Found {
        refused: too_old(version),
        not_now,
        clustered,
        warnings,
        time: time(micros),
    })
}

/// What a node of a cluster says of itself; nothing where there is no cluster.
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
    // Built in, but there is no cluster.
    if state == "Disabled" || state.is_empty() {
        return Ok(None);
    }
    // What is read here from now on is all that was committed on any node.
    db.execute_unprepared("SET SESSION wsrep_sync_wait = 1")
        .await?;
    Ok(Some(if ready == "ON" {
        state
    } else {
        format!("{state}, not ready")
    }))
}

fn too_old(version: &str) -> Option<String> {
    // `10.11.6-MariaDB-0+deb12u1`, `8.0.36`; old MariaDBs put `5.5.5-` before theirs.
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

/// See [`super::take_revision`]: these servers tell the new value of one column only, in the answer itself.
pub(super) async fn take_revision(tx: &DatabaseTransaction, now: Timestamp) -> Result<Revision> {
    let now = now.micros();
    // From left to right: the skew is told by what the latest time was.
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

/// Counts a new group in each of its roles and in the directory, in one round trip: a statement that updates
/// two tables updates every row once, however often it is joined.
pub(super) async fn count_new_group(tx: &DatabaseTransaction, roles: Vec<RoleId>) -> Result<()> {
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

/// What an error means, by its number: <https://mariadb.com/kb/en/mariadb-error-code-reference/>,
/// <https://dev.mysql.com/doc/mysql-errors/8.0/en/server-error-reference.html>.
pub(in crate::store) fn meaning(error: &MySqlDatabaseError) -> Meaning<'_> {
    match error.number() {
        // A duplicate: `… for key 'NAME'`, which MySQL writes `TABLE.NAME`.
        1062 => match quoted(error.message(), '\'').rsplit('.').next() {
            // Ids are new and revisions taken alone: on a Galera node, another node's write has overtaken this one,
            // and its rows are seen before this one is told of a deadlock.
            Some("PRIMARY") => Meaning::Conflict,
            name => Meaning::Broken(name.unwrap_or("")),
        },
        // A reference: what was there a statement before is there no more, or the other way round. The same.
        1451 | 1452 => Meaning::Conflict,
        // A broken CHECK: MariaDB has "CONSTRAINT `NAME` failed for …", MySQL "Check constraint 'NAME' is …".
        4025 => Meaning::Broken(error.message().split('`').nth(1).unwrap_or("")),
        3819 => Meaning::Broken(error.message().split('\'').nth(1).unwrap_or("")),
        // Lock wait timeout, deadlock, record changed since it was read. A Galera node says "deadlock" at the
        // commit of what another node's commit has overtaken.
        1205 | 1213 | 1020 => Meaning::Conflict,
        // Too many connections (of all, of a user), no resources, disk or table full, out of memory.
        1040 | 1203 | 1226 | 1021 | 1114 | 1037 | 1041 | 1038 => Meaning::Unavailable,
        // Stopping, killed, interrupted, took too long, idle for too long, connection lost.
        1053 | 1927 | 1317 | 1969 | 3024 | 4031 | 1152..=1161 => Meaning::Unavailable,
        // Read-only: a failover. Not in step with the cluster, or without a quorum.
        1290 | 1792 | 1836 | 1047 | 1180 | 3100..=3101 => Meaning::Unavailable,
        // A login that holds no longer, a database that is gone, damaged files, I/O errors.
        1044 | 1045 | 1049 | 1698 | 1030 | 1034 | 1026 | 1015 | 1016 | 1712 => Meaning::Unavailable,
        _ => Meaning::Other,
    }
}

/// What stands between the last two of these quotes.
fn quoted(message: &str, quote: char) -> &str {
    message.rsplit(quote).nth(1).unwrap_or("")
}

pub(super) fn is_final(error: &MySqlDatabaseError) -> bool {
    // Login refused, no such database, and this host may not connect.
    [1044, 1045, 1049, 1130, 1698, 1251, 1396].contains(&error.number())
}
