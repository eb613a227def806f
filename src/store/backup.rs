//! Backups of a SQLite file, and what begins anew after a restore: the directory's history.

mod check;
mod partial;

use std::path::{Path, PathBuf};

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait, Statement, sea_query::Expr,
};

use self::{check::look, partial::Partial};
use super::{
    Db, Location, change,
    engine::sqlite::{self, FileLock},
    open::{close, innermost},
    write::begin,
};
use crate::{domain::HistoryId, entity::directory, error::Result};

pub use check::Holdings;

/// What whoever has a server is told.
const FILES_ONLY: &str = "this is for SQLite: use pg_dump or mariadb-dump, their way back, and then \
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

/// Copies the database to `file`, as of one moment, whoever reads and writes it meanwhile. Under its name the file
/// is there whole or not at all. Tells what is in it.
///
/// # Errors
/// One sentence for the operator; then there is no such file.
pub async fn make(location: &Location, file: &Path) -> Result<Holdings, BackupError> {
    let fail = BackupError::new("back up", location);
    let Location::Sqlite(path) = location else {
        return Err(fail(FILES_ONLY.to_owned()));
    };
    copy_of(path, file).await.map_err(fail)
}

async fn copy_of(path: &Path, file: &Path) -> Result<Holdings, String> {
    {
        let _alone = sqlite::alone(path).await;
        let db = sqlite::peek(path)?.ok_or("there is nothing there yet")?;
        let workable = check::workable(&db).await;
        close(db).await;
        workable?;
    }
    let partial = Partial::create(file)?;
    copy(sqlite::join(path), &partial).await?;
    let held = read(partial.path(), async |db| look(db).await).await?;
    partial.publish()?;
    Ok(held)
}

/// Tells what is in a backup that can be restored; changes nothing.
///
/// # Errors
/// One sentence for the operator on what is wrong with it.
pub async fn check(file: &Path) -> Result<Holdings, BackupError> {
    let checked = checked(file).await;
    checked.map_err(BackupError::new("restore", file.display()))
}

async fn checked(file: &Path) -> Result<Holdings, String> {
    read(file, async |db| {
        check::workable(db).await?;
        check::check(db).await?;
        look(db).await
    })
    .await
}

/// Makes the database from a backup that passes [`check()`], with a history of its own. The database must not be
/// there, nor a server that has it open, wherever its files are by now; unless `force` says that this is no matter.
///
/// # Errors
/// One sentence for the operator; then there is no database.
pub async fn restore(
    location: &Location,
    file: &Path,
    force: bool,
) -> Result<Holdings, BackupError> {
    let Location::Sqlite(path) = location else {
        return Err(BackupError::new("restore into", location)(
            FILES_ONLY.to_owned(),
        ));
    };
    // A server that is started meanwhile waits for the end of this, and then finds the whole of it.
    let _alone = sqlite::alone(path).await;
    vacant(path).map_err(BackupError::new("restore into", location))?;
    let _lock = if force {
        None
    } else {
        FileLock::take(path).map_err(BackupError::new("restore into", location))?
    };
    check(file).await?;
    let restored = copy_back(file, path).await;
    restored.map_err(BackupError::new("restore into", location))
}

/// Complains about whatever is there already: a server may have it open, and the log of another database would be
/// taken for this one's.
fn vacant(path: &Path) -> Result<(), String> {
    let there = ["", "-wal", "-shm", "-journal"]
        .map(|ending| sqlite::beside(path, ending))
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

async fn copy_back(file: &Path, path: &Path) -> Result<Holdings, String> {
    let partial = Partial::create(path)?;
    let backup = sqlite::look_into(file)?.ok_or("the backup is gone")?;
    copy(backup, &partial).await?;
    let db = sqlite::join(partial.path());
    let begun = begin_history(&db).await.map_err(|error| innermost(&error));
    close(db).await;
    begun?;
    let held = read(partial.path(), async |db| look(db).await).await?;
    partial.publish()?;
    Ok(held)
}

/// Copies a database as of one moment, and closes it.
async fn copy(db: DatabaseConnection, into: &Partial) -> Result<(), String> {
    let path = into.path().to_str();
    let copied = match path {
        Some(path) => {
            let values = [path.into()];
            let statement =
                Statement::from_sql_and_values(DbBackend::Sqlite, "VACUUM INTO ?", values);
            let copied = db.execute_raw(statement).await;
            copied.map(drop).map_err(|error| innermost(&error))
        }
        None => Err("the name of the file must be UTF-8".to_owned()),
    };
    close(db).await;
    copied
}

/// Does something with a file that nobody writes.
async fn read<T>(
    file: &Path,
    work: impl AsyncFnOnce(&DatabaseConnection) -> Result<T, String>,
) -> Result<T, String> {
    let db = sqlite::look_into(file)?.ok_or("there is nothing in it")?;
    let done = work(&db).await;
    close(db).await;
    done
}

/// Gives the directory's history another id, so that followers of the old one are told.
///
/// # Errors
/// The database is unavailable.
pub async fn new_history(db: &Db) -> Result<directory::Model> {
    let tx = begin(db).await?;
    begin_history(&tx).await?;
    let directory = change::directory(&tx).await?;
    tx.commit().await?;
    Ok(directory)
}

async fn begin_history(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    let id = Expr::value(HistoryId::generate());
    let update = directory::Entity::update_many().col_expr(directory::Column::HistoryId, id);
    update.exec(db).await.map(drop)
}

/// A path that SQLite can't take for one of its own URIs.
fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| error.to_string())
}
