//! SQLite: opening files, and probing their health.

mod deadline;
mod file;
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

use super::{ACQUIRE_TIMEOUT, ConnectionPurpose};
use crate::store::errors::ErrorClass;

pub(super) use deadline::StatementDeadline;
pub(in crate::store) use file::{FileLock, OpenFile, disk_full_reason};
pub(in crate::store) use trigrams::candidates;

/// How long a write waits for the lock of another process on the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
const STATEMENT_CACHE: usize = 256;
/// How many steps of SQLite's virtual machine, some 50 µs, pass between two checks of a statement's deadline.
const PROGRESS_INTERVAL_OPS: i32 = 1000;

/// Lists the tables of the database.
pub(in crate::store) const TABLES: &str = "SELECT name FROM sqlite_schema WHERE type = 'table'";

/// Waits for the lock on the file's directory, and holds it until the result is dropped: two servers that start at once
/// on one file must not both migrate it. `None` if it can't be locked, such as on a file system without locks.
pub(in crate::store) async fn lock_directory(path: &Path) -> Option<File> {
    let directory = File::open(path.parent()?).ok()?;
    let locked = tokio::task::spawn_blocking(move || directory.lock().map(|()| directory));
    locked.await.ok()?.ok()
}

/// Opens the file read-only, for an inspection before anything in it is changed. `None` if there is no file or it is
/// empty; a file that can't be written is an error.
pub(in crate::store) fn open_existing(path: &Path) -> Result<Option<DatabaseConnection>, String> {
    if path.is_file()
        && let Err(error) = OpenOptions::new().write(true).open(path)
    {
        return Err(format!("it can't be written ({error})"));
    }
    open_read_only(path)
}

/// Like [`open_existing`], for a file that needn't be writable.
pub(in crate::store) fn open_read_only(path: &Path) -> Result<Option<DatabaseConnection>, String> {
    if !has_data(path)? {
        return Ok(None);
    }
    // Without a write-ahead log nobody has the file open. SQLite treats it as immutable then, and creates no files
    // beside it.
    let alone = !sibling_path(path, "-wal").exists();
    let look = move |options: SqliteConnectOptions| options.read_only(true).immutable(alone);
    Ok(Some(open(path, 1, look)))
}

/// Opens a file that other processes may have open, and leaves its settings as they are.
pub(in crate::store) fn open_shared(path: &Path) -> DatabaseConnection {
    open(path, 1, |options| options)
}

/// Creates the file if it doesn't exist; opening it later never does. Only its owner may read it, and SQLite gives the
/// files beside it (`-wal`, `-shm`) the same permissions.
pub(in crate::store) fn create(path: &Path) -> Result<(), String> {
    let created = owner_only().create(true).truncate(false).open(path);
    created
        .map(drop)
        .map_err(|error| format!("it can't be created ({error})"))
}

/// Options that make a new file readable by its owner only: it may hold names of people and digests of tokens.
pub(in crate::store) fn owner_only() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    options
}

/// Logs a warning about files of the database that users other than their owner may open.
pub(in crate::store) fn warn_of_permissions(path: &Path) {
    for path in ["", "-wal", "-shm"].map(|ending| sibling_path(path, ending)) {
        let mode = path
            .metadata()
            .map_or(0, |metadata| metadata.mode() & 0o777);
        if mode & 0o077 != 0 {
            let (path, mode) = (path.display(), format!("{mode:04o}"));
            tracing::warn!(database = %path, mode, "other users may open this file of the database: chmod 600");
        }
    }
}

pub(super) fn connect(
    path: &Path,
    purpose: ConnectionPurpose,
    connections: u32,
) -> DatabaseConnection {
    match purpose {
        ConnectionPurpose::Write | ConnectionPurpose::Migrate => open(path, 1, |options| {
            options
                .journal_mode(SqliteJournalMode::Wal)
                // NORMAL can lose the last commits on a power failure.
                .synchronous(SqliteSynchronous::Full)
                .foreign_keys(true)
                // After a burst, the write-ahead log shrinks to at most 64 MiB.
                .pragma("journal_size_limit", "67108864")
        }),
        ConnectionPurpose::Read | ConnectionPurpose::Sync | ConnectionPurpose::Probe => {
            open(path, connections, |options| options.read_only(true))
        }
    }
}

/// Reads a page of the file, as a probe.
pub(in crate::store) async fn probe_read(prober: &DatabaseConnection) -> Result<(), DbErr> {
    prober
        .execute_unprepared("SELECT count(*) FROM seaql_migrations")
        .await?;
    Ok(())
}

/// Commits a page to the file, as a probe: setting the user version, which is always 0, writes it even so.
pub(in crate::store) async fn probe_write(writer: &DatabaseConnection) -> Result<(), DbErr> {
    writer.execute_unprepared("PRAGMA user_version = 0").await?;
    Ok(())
}

/// A pool of one read-only connection whose statements are interrupted when `limit` has expired.
pub(super) fn connect_with_deadline(path: &Path, limit: &StatementDeadline) -> DatabaseConnection {
    let limit = limit.clone();
    let pool = pool(1).after_connect(move |connection, _| {
        let limit = limit.clone();
        Box::pin(async move {
            let mut handle = connection.lock_handle().await?;
            handle.set_progress_handler(PROGRESS_INTERVAL_OPS, move || !limit.is_expired());
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
        // Sorting must not need space on a disk that may be full.
        .pragma("temp_store", "MEMORY")
        .disable_statement_logging()
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // Connections to a file don't go stale, so they are neither tested nor replaced.
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        // After some errors SQLite rolls back by itself, while sqlx still considers the connection to be in a
        // transaction: such a connection is closed rather than reused. The ping runs after the rollback that a
        // dropped transaction has left in the connection's queue.
        .after_release(|connection, _| {
            Box::pin(async move {
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        })
}

/// `path` with `ending` appended, as SQLite names the files beside a database. The write-ahead log (`-wal`) exists
/// while the database is open, and after a crash.
pub(in crate::store) fn sibling_path(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_path_buf().into_os_string();
    name.push(ending);
    name.into()
}

/// Whether there is a non-empty database at `path`. Anything that can't be a database is an error.
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

/// Classifies an error by its primary result code: <https://sqlite.org/rescode.html>.
pub(in crate::store) fn classify(error: &dyn sqlx::error::DatabaseError) -> ErrorClass<'_> {
    let extended: u32 = error.code().and_then(|code| code.parse().ok()).unwrap_or(0);
    match extended & 0xff {
        // Only the message names the constraint: `CHECK constraint failed: NAME`.
        code::CONSTRAINT => {
            let broken = error.message().rsplit_once(": ");
            ErrorClass::ConstraintViolation(broken.map_or("", |(_, broken)| broken))
        }
        // Another process has held its lock for longer than the busy timeout.
        code::BUSY | code::LOCKED | code::PROTOCOL => ErrorClass::Conflict,
        code::PERM
        | code::NOMEM
        | code::READONLY
        | code::INTERRUPT
        | code::IOERR
        | code::CORRUPT
        | code::FULL
        | code::CANTOPEN
        | code::NOTADB => ErrorClass::Unavailable,
        _ => ErrorClass::Other,
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
