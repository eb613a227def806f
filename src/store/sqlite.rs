//! SQLite: where the data is, how it is opened, and how its health is found out.

use std::{
    fs::{File, OpenOptions},
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use migrations::{Migrator, MigratorTrait};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr, Statement,
    sqlx::{
        Connection,
        sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
    },
};

use crate::error::Error;

/// How long a call waits for a connection before it is told that there are too many.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a write waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(2);
const STATEMENT_CACHE: usize = 256;
const READERS: u32 = 8;
const MIGRATION_TABLE: &str = "seaql_migrations";

/// Where the data is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location(PathBuf);

impl Location {
    /// Reads a database URL: `sqlite:` and the path of a file.
    ///
    /// # Errors
    /// One sentence on what is wrong with it. It doesn't repeat the URL, which might hold a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let Some(path) = url.strip_prefix("sqlite:") else {
            return Err("the database URL must begin with `sqlite:`".to_owned());
        };
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.contains(['?', '#']) {
            return Err(
                "a `sqlite:` URL takes no parameters: the file is created if it isn't there"
                    .to_owned(),
            );
        }
        if path.is_empty() || path == ":memory:" {
            return Err(
                "a `sqlite:` URL must name a file, such as `sqlite:group-service.db`".to_owned(),
            );
        }
        // Absolute, so that SQLite can't take it for one of its own URIs (`file:…`).
        let path = std::path::absolute(path).map_err(|error| error.to_string())?;
        Ok(Self(path))
    }

    /// The write-ahead log, which is there while the database is open, or after a crash.
    fn log(&self) -> PathBuf {
        let mut name = self.0.clone().into_os_string();
        name.push("-wal");
        name.into()
    }
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.display().fmt(f)
    }
}

/// Why the database can't be opened: one sentence for the operator.
#[derive(Debug)]
pub struct OpenError(String);

impl OpenError {
    pub(super) fn unreadable(location: &Location, error: &Error) -> Self {
        let reason = std::error::Error::source(error).map_or_else(String::new, innermost);
        Self(format!("can't open the database {location}: {reason}"))
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for OpenError {}

/// Opens a connection to write through, connections to read through, and one to look whether there is still
/// something to read, on this version's schema.
pub(super) async fn open(location: &Location) -> Result<[DatabaseConnection; 3], OpenError> {
    let fail = |reason: String| OpenError(format!("can't open the database {location}: {reason}"));
    let driver = |error: DbErr| fail(innermost(&error));

    // Two servers that start at once on one file must not both migrate it.
    let _alone = lock(&location.0).await;
    // Looked at before anything is changed in it.
    if has_data(&location.0).map_err(fail)? {
        // Without a log beside it nobody has it open: then it is read as it is, and nothing is put beside it.
        let alone = !location.log().exists();
        let look = move |options: SqliteConnectOptions| options.read_only(true).immutable(alone);
        let looking = connect(location, 1, look).await.map_err(driver)?;
        let ours = is_ours(&looking).await;
        looking.close().await.map_err(driver)?;
        ours.map_err(driver)?.map_err(fail)?;
    }

    create(&location.0).map_err(fail)?;
    let writer = connect(location, 1, |options| {
        options
            .journal_mode(SqliteJournalMode::Wal)
            // NORMAL can lose the last commits when the power goes.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // After a burst the log shrinks again.
            .pragma("journal_size_limit", "67108864")
    })
    .await
    .map_err(driver)?;
    Migrator::up(&writer, None).await.map_err(driver)?;
    let reader = connect(location, READERS, |options| options.read_only(true))
        .await
        .map_err(driver)?;
    let prober = connect(location, 1, |options| options.read_only(true))
        .await
        .map_err(driver)?;
    Ok([writer, reader, prober])
}

/// Reads a page of the file.
pub(super) async fn probe_read(prober: &DatabaseConnection) -> Result<(), DbErr> {
    prober
        .execute_unprepared("SELECT count(*) FROM seaql_migrations")
        .await?;
    Ok(())
}

/// Commits a page to the file: setting the user version, which we leave at 0, writes it all the same.
pub(super) async fn probe_write(writer: &DatabaseConnection) -> Result<(), DbErr> {
    writer.execute_unprepared("PRAGMA user_version = 0").await?;
    Ok(())
}

async fn connect(
    location: &Location,
    connections: u32,
    with: impl Fn(SqliteConnectOptions) -> SqliteConnectOptions + Send + Sync + 'static,
) -> Result<DatabaseConnection, DbErr> {
    // The path is set below, as a path: in the URL it would have to be escaped.
    let mut options = ConnectOptions::new("sqlite:group-service.db");
    let path = location.0.clone();
    options
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // A connection to a file doesn't go stale: it is neither tested nor renewed.
        .test_before_acquire(false)
        .idle_timeout(None::<Duration>)
        .max_lifetime(None::<Duration>)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(move |options| {
            with(
                options
                    .filename(&path)
                    .busy_timeout(BUSY_TIMEOUT)
                    .statement_cache_capacity(STATEMENT_CACHE)
                    // Sorting must not need room on a disk that may be full.
                    .pragma("temp_store", "MEMORY"),
            )
        })
        .map_sqlx_sqlite_pool_opts(|options| {
            // After some errors SQLite rolls back by itself, and sqlx goes on to think of the connection
            // as being in a transaction: such a one is closed rather than used again. The ping is behind
            // the rollback that a dropped transaction has left in the connection's queue.
            options.after_release(|connection, _| {
                Box::pin(async move {
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction())
                })
            })
        });
    Database::connect(options).await
}

/// Waits until no other server opens a database in the same directory. Where the file system has no locks
/// there is nothing to wait for.
async fn lock(path: &Path) -> Option<File> {
    let directory = File::open(path.parent()?).ok()?;
    let locked = tokio::task::spawn_blocking(move || directory.lock().map(|()| directory));
    locked.await.ok()?.ok()
}

/// Creates the file if it isn't there: now, and never again while we run.
fn create(path: &Path) -> Result<(), String> {
    let created = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path);
    created
        .map(drop)
        .map_err(|error| format!("it can't be created ({error})"))
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
    if let Err(error) = OpenOptions::new().write(true).open(path) {
        return Err(format!("it can't be written ({error})"));
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

/// Whether this version can work with the database; the inner error says why not.
async fn is_ours(db: &DatabaseConnection) -> Result<Result<(), String>, DbErr> {
    let tables = strings(db, "SELECT name FROM sqlite_schema WHERE type = 'table'").await?;
    if tables.is_empty() {
        return Ok(Ok(()));
    }
    if !tables.iter().any(|table| table == MIGRATION_TABLE) {
        return Ok(Err("it holds the tables of another program".to_owned()));
    }
    let known = Migrator::migrations();
    let applied = strings(db, "SELECT version FROM seaql_migrations ORDER BY version").await?;
    let unknown = applied
        .iter()
        .find(|version| known.iter().all(|migration| migration.name() != **version));
    Ok(match unknown {
        Some(version) => Err(format!(
            "it was written by a newer version of group-service (its schema has {version})"
        )),
        None => Ok(()),
    })
}

async fn strings(db: &DatabaseConnection, sql: &str) -> Result<Vec<String>, DbErr> {
    let rows = db
        .query_all_raw(Statement::from_string(db.get_database_backend(), sql))
        .await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

/// The driver's own words, without the layers around them.
fn innermost(mut error: &(dyn std::error::Error + 'static)) -> String {
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
