//! Backup and restore of SQLite files, and the new history that a restored directory gets.

mod check;
mod partial_file;

use std::path::{Path, PathBuf};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait, Statement, sea_query::Expr,
};

use self::{check::summarize, partial_file::PartialFile};
use super::{
    Db, Location, change,
    engine::sqlite::{self, FileLock},
    open::{close, root_cause},
    write::begin,
};
use crate::{domain::HistoryId, entity::directory, error::Result};

pub use check::BackupSummary;

/// Error message for databases on servers.
const SQLITE_ONLY: &str = "this is for SQLite: use pg_dump or mariadb-dump, their way back, and then \
                          `group-service new-history` (docs/operations.md)";

/// Why a backup can't be made or restored: one sentence for the operator.
#[derive(Debug)]
pub struct BackupError(String);

impl BackupError {
    fn new(what: &str, place: impl std::fmt::Display) -> impl Fn(String) -> Self {
        let begun = format!("can't {what} {place}");
        move |reason| Self(format!("{begun}: {reason}"))
    }
}

impl std::fmt::Display for BackupError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for BackupError {}

/// Copies the database to `file` as of one moment, while others may read and write it. The file gets its name only
/// when it is complete. Returns a summary of its contents.
///
/// # Errors
/// One sentence for the operator. The file doesn't exist then, unless only the sync of its directory has failed.
pub async fn make(location: &Location, file: &Path) -> Result<BackupSummary, BackupError> {
    let fail = BackupError::new("back up", location);
    let Location::Sqlite(path) = location else {
        return Err(fail(SQLITE_ONLY.to_owned()));
    };
    back_up(path, file).await.map_err(fail)
}

async fn back_up(path: &Path, file: &Path) -> Result<BackupSummary, String> {
    {
        let _directory_lock = sqlite::lock_directory(path).await;
        let db = sqlite::open_existing(path)?.ok_or("there is nothing there yet")?;
        let check_compatible = check::check_compatible(&db).await;
        close(db).await;
        check_compatible?;
    }
    let partial = PartialFile::create(file)?;
    copy(sqlite::open_shared(path), &partial).await?;
    let summary = with_file(partial.path(), async |db| summarize(db).await).await?;
    partial.publish()?;
    Ok(summary)
}

/// Checks that a backup can be restored, and returns a summary of its contents; changes nothing.
///
/// # Errors
/// One sentence for the operator about what is wrong with it.
pub async fn check(file: &Path) -> Result<BackupSummary, BackupError> {
    let checked = checked(file).await;
    checked.map_err(BackupError::new("restore", file.display()))
}

async fn checked(file: &Path) -> Result<BackupSummary, String> {
    with_file(file, async |db| {
        check::check_compatible(db).await?;
        check::check(db).await?;
        summarize(db).await
    })
    .await
}

/// Creates the database from a backup that passes [`check()`], with a new history. The database must not exist, and no
/// server may have it open, even if its files have been moved away; `force` skips the check for such a server.
///
/// # Errors
/// One sentence for the operator. The database doesn't exist then, unless only the sync of its directory has failed.
pub async fn restore(
    location: &Location,
    file: &Path,
    force: bool,
) -> Result<BackupSummary, BackupError> {
    let Location::Sqlite(path) = location else {
        return Err(BackupError::new("restore into", location)(
            SQLITE_ONLY.to_owned(),
        ));
    };
    // A server that starts meanwhile waits for this lock, and then finds the complete database.
    let _directory_lock = sqlite::lock_directory(path).await;
    require_absent(path).map_err(BackupError::new("restore into", location))?;
    let _lock = if force {
        None
    } else {
        FileLock::take(path).map_err(BackupError::new("restore into", location))?
    };
    check(file).await?;
    let restored = copy_back(file, path).await;
    restored.map_err(BackupError::new("restore into", location))
}

/// Rejects existing files: a server may have them open, and SQLite would take the log of another database for this
/// one's.
fn require_absent(path: &Path) -> Result<(), String> {
    let there = ["", "-wal", "-shm", "-journal"]
        .map(|ending| sqlite::sibling_path(path, ending))
        .into_iter()
        .find(|path| path.symlink_metadata().is_ok());
    match there {
        None => Ok(()),
        Some(there) => Err(format!(
            "{} is there: stop the server, and move all files of the database away (also -wal and -shm)",
            there.display()
        )),
    }
}

async fn copy_back(file: &Path, path: &Path) -> Result<BackupSummary, String> {
    let partial = PartialFile::create(path)?;
    let backup = sqlite::open_read_only(file)?.ok_or("the backup is gone")?;
    copy(backup, &partial).await?;
    let db = sqlite::open_shared(partial.path());
    let begun = assign_new_history(&db)
        .await
        .map_err(|error| root_cause(&error));
    close(db).await;
    begun?;
    let summary = with_file(partial.path(), async |db| summarize(db).await).await?;
    partial.publish()?;
    Ok(summary)
}

/// Copies a database as of one moment, and closes the connection.
async fn copy(db: DatabaseConnection, into: &PartialFile) -> Result<(), String> {
    let path = into.path().to_str();
    let copied = match path {
        Some(path) => {
            let values = [path.into()];
            let statement =
                Statement::from_sql_and_values(DbBackend::Sqlite, "VACUUM INTO ?", values);
            let copied = db.execute_raw(statement).await;
            copied.map(drop).map_err(|error| root_cause(&error))
        }
        None => Err("the name of the file must be UTF-8".to_owned()),
    };
    close(db).await;
    copied
}

/// Runs `work` on a file that nobody writes.
async fn with_file<T>(
    file: &Path,
    work: impl AsyncFnOnce(&DatabaseConnection) -> Result<T, String>,
) -> Result<T, String> {
    let db = sqlite::open_read_only(file)?.ok_or("there is nothing in it")?;
    let done = work(&db).await;
    close(db).await;
    done
}

/// Gives the directory's history a new id, so that watchers of the old one get an error when they resume.
///
/// # Errors
/// The database is unavailable.
pub async fn new_history(db: &Db) -> Result<directory::Model> {
    let tx = begin(db).await?;
    assign_new_history(&tx).await?;
    let directory = change::read_directory(&tx).await?;
    tx.commit().await?;
    Ok(directory)
}

async fn assign_new_history(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    let id = Expr::value(HistoryId::generate());
    let update = directory::Entity::update_many().col_expr(directory::Column::HistoryId, id);
    update.exec(db).await.map(drop)
}

/// An absolute path, which SQLite can't take for one of its own URIs.
fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| error.to_string())
}
