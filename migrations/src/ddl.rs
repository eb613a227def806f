//! Translates one schema text for every engine: the differences are placeholders, defined in one table.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{DbBackend, RuntimeErr, sqlx::mysql::MySqlDatabaseError};

/// Placeholders of the schema, and their replacements on SQLite, on PostgreSQL, and on MariaDB and MySQL.
const PLACEHOLDERS: [[&str; 4]; 15] = [
    // A UUID of 16 bytes.
    ["{id}", "BLOB", "UUID", "BINARY(16)"],
    // A SHA-256 digest.
    ["{digest}", "BLOB", "BYTEA", "BINARY(32)"],
    // Bytes that sort like the text, at most 1,000.
    ["{sort}", "BLOB", "BYTEA", "VARBINARY(1000)"],
    ["{no_bytes}", "x''", "''", "''"],
    ["{bytes}", "BLOB", "BYTEA", "MEDIUMBLOB"],
    // A line of text that can be indexed.
    ["{line}", "TEXT", "TEXT", "VARCHAR(255)"],
    // A part of a rule, short enough for three of them in a key.
    ["{word}", "TEXT", "TEXT", "VARCHAR(60)"],
    ["{text}", "TEXT", "TEXT", "MEDIUMTEXT"],
    ["{big}", "INTEGER", "BIGINT", "BIGINT"],
    ["{int}", "INTEGER", "INTEGER", "INTEGER"],
    ["{small}", "INTEGER", "SMALLINT", "SMALLINT"],
    ["{chars}", "length", "char_length", "char_length"],
    ["{octets}", "length", "octet_length", "octet_length"],
    [
        "{new_uuid}",
        "randomblob(16)",
        "gen_random_uuid()",
        "unhex(replace(uuid(), '-', ''))",
    ],
    // The end of a table definition; see also `KEY_ONLY`.
    [
        "{strict}",
        "STRICT",
        "",
        "ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    ],
];

/// Marks lines for SQLite only, which checks no lengths by itself.
const SQLITE_ONLY: &str = "-- SQLite";
/// The end of a table that is looked up by its primary key.
const KEY_ONLY: &str = "{strict}, WITHOUT ROWID";

/// Errors of MariaDB and MySQL for statements that were already executed: a table, column or index exists; a table,
/// column or index doesn't exist.
const ALREADY_APPLIED: [u16; 5] = [1050, 1060, 1061, 1051, 1091];

/// Executes the statements of a schema, one by one.
///
/// MariaDB and MySQL commit each statement by itself: there an interrupted migration starts again, and statements that
/// were already executed are skipped.
pub(crate) async fn run(manager: &SchemaManager<'_>, schema: &str) -> Result<(), DbErr> {
    let db = manager.get_connection();
    let backend = manager.get_database_backend();
    for statement in translate(schema, backend).split(";\n") {
        if statement.trim().is_empty() {
            continue;
        }
        match db.execute_unprepared(statement).await {
            Err(error) if is_already_applied(&error) => {}
            result => {
                result?;
            }
        }
    }
    Ok(())
}

fn translate(schema: &str, backend: DbBackend) -> String {
    let sqlite = backend == DbBackend::Sqlite;
    let mut sql = String::with_capacity(schema.len() * 2);
    for line in schema
        .lines()
        .filter(|line| sqlite || !line.ends_with(SQLITE_ONLY))
    {
        sql.push_str(line.trim_end_matches(SQLITE_ONLY));
        sql.push('\n');
    }
    if !sqlite {
        sql = sql.replace(KEY_ONLY, "{strict}");
    }
    for [word, on_sqlite, on_postgres, on_mysql] in PLACEHOLDERS {
        let of_engine = match backend {
            DbBackend::Postgres => on_postgres,
            DbBackend::MySql => on_mysql,
            _ => on_sqlite,
        };
        sql = sql.replace(word, of_engine);
    }
    if backend != DbBackend::MySql {
        // Index names are unique per schema on these engines: `DROP INDEX` names no table.
        let dropped = |line: &str| match line.split_once(" ON ") {
            Some((index, _)) if line.starts_with("DROP INDEX ") => format!("{index};\n"),
            _ => format!("{line}\n"),
        };
        sql = sql.lines().map(dropped).collect();
    } else {
        // MariaDB and MySQL have no partial indexes, and quote with backticks.
        sql = sql.replace('"', "`");
        let whole = |line: &str| match line.split_once(" WHERE ") {
            Some((index, _)) if line.starts_with("CREATE INDEX ") => format!("{index};\n"),
            _ => format!("{line}\n"),
        };
        sql = sql.lines().map(whole).collect();
        sql = sql.replace("INSERT INTO", "INSERT IGNORE INTO");
    }
    sql
}

fn is_already_applied(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause))) =
        error
    else {
        return false;
    };
    cause
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>())
        .is_some_and(|error| ALREADY_APPLIED.contains(&error.number()))
}
