//! Bringing the database to this version's schema, after a look at whether it is ours.

use std::{path::Path, sync::Arc};

use sea_orm::{DatabaseConnection, DbErr};

use super::{OpenError, close, reach};
use crate::store::{
    engine::{
        self, Use,
        sqlite::{self, FileLock, OpenFile},
    },
    location::Location,
    schema::{self, Migration},
    settings::Settings,
};

/// Error message of commands that don't create a database.
const NOTHING_THERE: &str = "there is nothing there yet: a server makes its database at its first start; \
                             --database-url names another one";

/// Which way to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To this version's schema.
    Up,
    /// One migration back.
    Down,
}

/// Changes the schema.
///
/// # Errors
/// One sentence for the operator on what is wrong with the place or the data there.
pub async fn migrate(settings: &Settings, direction: Direction) -> Result<(), OpenError> {
    prepare(settings, direction).await.map(drop)
}

/// A database of this version's schema.
pub(super) struct Prepared {
    /// Which of its servers is to be used.
    pub(super) server: usize,
    /// The file, if it is one.
    pub(super) file: Option<OpenFile>,
    /// The file's lock, if it is to be locked.
    pub(super) lock: Option<FileLock>,
}

/// Looks at the database, and changes its schema.
pub(super) async fn prepare(
    settings: &Settings,
    direction: Direction,
) -> Result<Prepared, OpenError> {
    let location = &settings.location;
    let fail = |reason: String| OpenError::new(location, &reason);
    let driver = |error: DbErr| OpenError::of(location, &error);
    let (_alone, server) = reach(settings).await?;
    let (mut file, mut lock) = (None, None);
    if let Location::Sqlite(path) = location {
        if !look_at_file(location, path).await? && !settings.create {
            return Err(fail(NOTHING_THERE.to_owned()));
        }
        if settings.exclusive {
            lock = FileLock::take(path).map_err(fail)?;
        }
        sqlite::create(path).map_err(fail)?;
        if settings.exclusive {
            sqlite::warn_of_permissions(path);
        }
        file = Some(OpenFile::at(path).map_err(|error| fail(error.to_string()))?);
    }
    let db = engine::connect(location, server, Use::Migrate, 1, &Arc::default());
    let done = async {
        if !settings.create && !is_ours(location, &db).await? {
            return Err(fail(NOTHING_THERE.to_owned()));
        }
        let done = match direction {
            Direction::Up => schema::up(&db).await,
            Direction::Down => schema::down(&db).await,
        };
        done.map_err(driver)?.map_err(fail)
    };
    let done = done.await;
    close(db).await;
    done?;
    Ok(Prepared { server, file, lock })
}

/// Tells what the schema has and lacks, and changes nothing.
///
/// # Errors
/// One sentence for the operator on what is wrong with the place or the data there.
pub async fn migrations(settings: &Settings) -> Result<Vec<Migration>, OpenError> {
    let location = &settings.location;
    let (_alone, server) = reach(settings).await?;
    let db = match location {
        Location::Sqlite(path) => sqlite::peek(path)
            .map_err(|reason| OpenError::new(location, &reason))?
            .ok_or_else(|| OpenError::new(location, "there is nothing there yet"))?,
        _ => engine::connect(location, server, Use::Migrate, 1, &Arc::default()),
    };
    let status = schema::status(&db).await;
    close(db).await;
    status
        .map_err(|error| OpenError::of(location, &error))?
        .map_err(|reason| OpenError::new(location, &reason))
}

/// Complains about a file that isn't ours, before anything is changed in it. Tells whether there is a database.
async fn look_at_file(location: &Location, path: &Path) -> Result<bool, OpenError> {
    let db = sqlite::peek(path).map_err(|reason| OpenError::new(location, &reason))?;
    let Some(db) = db else { return Ok(false) };
    let ours = is_ours(location, &db).await;
    close(db).await;
    ours
}

/// Whether there is a database of ours; complains about another one.
async fn is_ours(location: &Location, db: &DatabaseConnection) -> Result<bool, OpenError> {
    let migrations = schema::status(db).await;
    let migrations = migrations.map_err(|error| OpenError::of(location, &error))?;
    let migrations = migrations.map_err(|reason| OpenError::new(location, &reason))?;
    Ok(migrations.iter().any(|migration| migration.applied))
}
