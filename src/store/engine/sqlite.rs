//! SQLite: how a file is opened, and how its health is found out.

mod file;
mod limit;
mod trigrams;

use std::{
    fs::{File, OpenOptions},
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, SqlxSqliteConnector};
use sqlx::{
    ConnectOptions, Connection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{ACQUIRE_TIMEOUT, Use};
use crate::store::classify::Meaning;

pub(in crate::store) use file::{FileLock, OpenFile, no_room};
pub(super) use limit::TimeLimit;
pub(in crate::store) use trigrams::candidates;

/// How long a write waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
const STATEMENT_CACHE: usize = 256;
/// So many steps of SQLite's virtual machine take some 50 µs: then it is looked whether a statement has to end.
const STEPS: i32 = 1000;

/// The tables that are there.
pub(in crate::store) const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table'";

/// Waits until no other server opens a database in the same directory, and keeps it so: two that start at once
/// on one file must not both migrate it. Where the file system has no locks there is nothing to wait for.
pub(in crate::store) async fn alone(path: &Path) -> Option<File> {
    let directory = File::open(path.parent()?).ok()?;
    let locked = tokio::task::spawn_blocking(move || directory.lock().map(|()| directory));
    locked.await.ok()?.ok()
}

/// A connection to look at what is in the file, if there is anything, before anything is changed in it.
pub(in crate::store) fn peek(path: &Path) -> Result<Option<DatabaseConnection>, String> {
    if path.is_file()
        && let Err(error) = OpenOptions::new().write(true).open(path)
    {
        return Err(format!("it can't be written ({error})"));
    }
    look_into(path)
}

/// The same, of a file that need not be one that can be written.
pub(in crate::store) fn look_into(path: &Path) -> Result<Option<DatabaseConnection>, String> {
    if !has_data(path)? {
        return Ok(None);
    }
    // Without a log beside it nobody has it open: then it is read as it is, and nothing is put beside it.
    let alone = !beside(path, "-wal").exists();
    let look = move |options: SqliteConnectOptions| options.read_only(true).immutable(alone);
    Ok(Some(open(path, 1, look)))
}

/// A connection to a file as it is, beside whoever has it open.
pub(in crate::store) fn join(path: &Path) -> DatabaseConnection {
    open(path, 1, |options| options)
}

/// Creates the file if it isn't there: now, and never again while we run. Only its owner may read it; SQLite gives the
/// files beside it (`-wal`, `-shm`) the same permissions.
pub(in crate::store) fn create(path: &Path) -> Result<(), String> {
    let created = private().create(true).truncate(false).open(path);
    created
        .map(drop)
        .map_err(|error| format!("it can't be created ({error})"))
}

/// How a file is created that only its owner may read: names of people and digests of tokens may be in it.
pub(in crate::store) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Warns of files of the database that others than their owner may read or write.
pub(in crate::store) fn warn_of_permissions(path: &Path) {
    for path in ["", "-wal", "-shm"].map(|ending| beside(path, ending)) {
        let mode = path
            .metadata()
            .map_or(0, |metadata| metadata.mode() & 0o777);
        if mode & 0o077 != 0 {
            let (path, mode) = (path.display(), format!("{mode:04o}"));
            tracing::warn!(database = %path, mode, "other users may open this file of the database: chmod 600");
        }
    }
}

pub(super) fn connect(path: &Path, purpose: Use, connections: u32) -> DatabaseConnection {
    match purpose {
        Use::Write | Use::Migrate => open(path, 1, |options| {
            options
                .journal_mode(SqliteJournalMode::Wal)
                // NORMAL can lose the last commits when the power goes.
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                // After a burst the log shrinks again.
                .pragma("journal_size_limit", "67108864")
        }),
        Use::Read | Use::Follow | Use::Look => {
            open(path, connections, |options| options.read_only(true))
        }
    }
}

/// Reads a page of the file.
pub(in crate::store) async fn probe_read(prober: &DatabaseConnection) -> Result<(), DbErr> {
    prober
        .execute_unprepared("SELECT count(*) FROM seaql_migrations")
        .await?;
    Ok(())
}

/// Commits a page to the file: setting the user version, which we leave at 0, writes it all the same.
pub(in crate::store) async fn probe_write(writer: &DatabaseConnection) -> Result<(), DbErr> {
    writer.execute_unprepared("PRAGMA user_version = 0").await?;
    Ok(())
}

/// A connection to read on, whose statements end when `limit` says so.
pub(super) fn connect_limited(path: &Path, limit: &TimeLimit) -> DatabaseConnection {
    let limit = limit.clone();
    let pool = pool(1).after_connect(move |connection, _| {
        let limit = limit.clone();
        Box::pin(async move {
            let mut handle = connection.lock_handle().await?;
            handle.set_progress_handler(STEPS, move || !limit.is_over());
            Ok(())
        })
    });
    let options = options(path).read_only(true);
    SqlxSqliteConnector::from_sqlx_sqlite_pool(pool.connect_lazy_with(options))
}

fn open(
    path: &Path,
    connections: u32,
    with: impl Fn(SqliteConnectOptions) -> SqliteConnectOptions,
) -> DatabaseConnection {
    let pool = pool(connections).connect_lazy_with(with(options(path)));
    SqlxSqliteConnector::from_sqlx_sqlite_pool(pool)
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENT_CACHE)
        // Sorting must not need room on a disk that may be full.
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging()
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A connection to a file doesn't go stale: it is neither tested nor renewed.
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        // After some errors SQLite rolls back by itself, and sqlx goes on to think of the connection as being in
        // a transaction: such a one is closed rather than used again. The ping is behind the rollback that a
        // dropped transaction has left in the connection's queue.
        .after_release(|connection, _| {
            Box::pin(async move {
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        })
}

/// What SQLite puts beside a file: a name that goes on like this. The write-ahead log (`-wal`) is there while the
/// database is open, or after a crash.
pub(in crate::store) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_path_buf().into_os_string();
    name.push(ending);
    name.into()
}

/// Whether there is a database at `path` to look at; complains about what can't be one.
fn has_data(path: &Path) -> Result<bool, String> {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            return match parent {
                Some(parent) if !parent.is_dir() => {
                    Err(format!("there is no directory {}", parent.display()))
                }
                _ => Ok(false),
            };
        }
        Err(error) => return Err(error.to_string()),
    };
    if metadata.is_dir() {
        return Err("it is a directory".to_owned());
    }
    if !metadata.is_file() {
        return Err("it is not a file".to_owned());
    }
    if metadata.len() == 0 {
        return Ok(false);
    }
    let mut header = [0; 16];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut header));
    if read.is_err() || &header != b"SQLite format 3\0" {
        return Err("it is not a SQLite database".to_owned());
    }
    Ok(true)
}

/// What an error means, by its primary result code: <https://sqlite.org/rescode.html>.
pub(in crate::store) fn meaning(error: &dyn sqlx::error::DatabaseError) -> Meaning<'_> {
    let extended: u32 = error.code().and_then(|code| code.parse().ok()).unwrap_or(0);
    match extended & 0xff {
        // Which constraint stands in the message only: `CHECK constraint failed: NAME`.
        code::CONSTRAINT => {
            let broken = error.message().rsplit_once(": ");
            Meaning::Broken(broken.map_or("", |(_, broken)| broken))
        }
        // Another process has held the file for longer than the busy timeout.
        code::BUSY | code::LOCKED | code::PROTOCOL => Meaning::Conflict,
        code::PERM
        | code::NOMEM
        | code::READONLY
        | code::INTERRUPT
        | code::IOERR
        | code::CORRUPT
        | code::FULL
        | code::CANTOPEN
        | code::NOTADB => Meaning::Unavailable,
        _ => Meaning::Other,
    }
}

/// SQLite's primary result codes.
mod code {
    pub(super) const PERM: u32 = 3;
    pub(super) const BUSY: u32 = 5;
    pub(super) const LOCKED: u32 = 6;
    pub(super) const NOMEM: u32 = 7;
    pub(super) const READONLY: u32 = 8;
    pub(super) const INTERRUPT: u32 = 9;
    pub(super) const IOERR: u32 = 10;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const FULL: u32 = 13;
    pub(super) const CANTOPEN: u32 = 14;
    pub(super) const PROTOCOL: u32 = 15;
    pub(super) const CONSTRAINT: u32 = 19;
    pub(super) const NOTADB: u32 = 26;
}
