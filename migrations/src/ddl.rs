//! One text of a schema for every engine: what differs are words, and stand in one table.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{DbBackend, RuntimeErr, sqlx::mysql::MySqlDatabaseError};

/// Words of the schema, and what they are on SQLite, on PostgreSQL, and on MariaDB and MySQL.
const WORDS: [[&str; 4]; 15] = [
    // A UUID of 16 bytes.
    ["{id}", "BLOB", "UUID", "BINARY(16)"],
    // A SHA-256 digest.
    ["{digest}", "BLOB", "BYTEA", "BINARY(32)"],
    // Bytes that sort as text does, at most 1,000.
    ["{sort}", "BLOB", "BYTEA", "VARBINARY(1000)"],
    ["{no_bytes}", "x''", "''", "''"],
    ["{bytes}", "BLOB", "BYTEA", "MEDIUMBLOB"],
    // A line of text that may be indexed.
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
    // At the end of a table whose rows have an id of their own, or are their own key.
    [
        "{strict}",
        "STRICT",
        "",
        "ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    ],
];

/// Stands at the end of lines that only SQLite needs, which checks no lengths by itself.
const SQLITE_ONLY: &str = "-- SQLite";
/// Stands at the end of a table whose key is all there is to find its rows by.
const KEY_ONLY: &str = "{strict}, WITHOUT ROWID";

/// What MariaDB and MySQL say of what is done already: a table is there, a column is, an index is; a table is
/// gone, a column or an index is.
const DONE_ALREADY: [u16; 5] = [1050, 1060, 1061, 1051, 1091];

/// Carries out a schema's statements, one by one.
///
/// MariaDB and MySQL commit each by itself: there, whoever was killed in the middle begins again, and what is
/// done already is passed over.
pub(crate) async fn run(manager: &SchemaManager<'_>, schema: &str) -> Result<(), DbErr> {
    let db = manager.get_connection();
    let backend = manager.get_database_backend();
    for statement in translate(schema, backend).split(";\n") {
        if statement.trim().is_empty() {
            continue;
        }
        match db.execute_unprepared(statement).await {
            Err(error) if is_done_already(&error) => {}
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
    for [word, on_sqlite, on_postgres, on_mysql] in WORDS {
        let of_engine = match backend {
            DbBackend::Postgres => on_postgres,
            DbBackend::MySql => on_mysql,
            _ => on_sqlite,
        };
        sql = sql.replace(word, of_engine);
    }
    if backend != DbBackend::MySql {
        // An index has a name of its own there, which tells the table.
        let dropped = |line: &str| match line.split_once(" ON ") {
            Some((index, _)) if line.starts_with("DROP INDEX ") => format!("{index};\n"),
            _ => format!("{line}\n"),
        };
        sql = sql.lines().map(dropped).collect();
    } else {
        // Without partial indexes there, and with quotes of its own.
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

fn is_done_already(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(cause)) | DbErr::Query(RuntimeErr::SqlxError(cause))) =
        error
    else {
        return false;
    };
    cause
        .as_database_error()
        .and_then(|error| error.try_downcast_ref::<MySqlDatabaseError>())
        .is_some_and(|error| DONE_ALREADY.contains(&error.number()))
}
