//! Migrating the database to this version's schema, after checking that it is this service's.

use std::{path::Path, sync::Arc};

use sea_orm::{DatabaseConnection, DbErr};

use super::{OpenError, close, wait_for_server};
use crate::store::{
    engine::{
        self, ConnectionPurpose,
        sqlite::{self, FileLock, OpenFile},
    },
    location::Location,
    schema::{self, Migration},
    settings::Settings,
};

/// Error message of commands that don't create a database.
const NO_DATABASE: &str = "there is nothing there yet: a server makes its database at its first start; \
                             --database-url names another one";

/// The direction of a migration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To this version's schema.
    Up,
    /// One migration back.
    Down,
}

/// Migrates the schema.
///
/// # Errors
/// One sentence for the operator about what is wrong with the location or its data.
pub async fn migrate(settings: &Settings, direction: Direction) -> Result<(), OpenError> {
    prepare(settings, direction).await.map(drop)
}

/// A database with this version's schema.
pub(super) struct Prepared {
    /// The index of the server to use.
    pub(super) server: usize,
    /// The SQLite file, if it is one.
    pub(super) file: Option<OpenFile>,
    /// The lock of the SQLite file, if [`Settings::exclusive`] requires it.
    pub(super) lock: Option<FileLock>,
}

/// Checks the database, and migrates its schema.
pub(super) async fn prepare(
    settings: &Settings,
    direction: Direction,
) -> Result<Prepared, OpenError> {
    let location = &settings.location;
    let fail = |reason: String| OpenError::new(location, &reason);
    let driver = |error: DbErr| OpenError::from_error(location, &error);
    let (_directory_lock, server) = wait_for_server(settings).await?;
    let (mut file, mut lock) = (None, None);
    if let Location::Sqlite(path) = location {
        if !inspect_file(location, path).await? && !settings.create {
            return Err(fail(NO_DATABASE.to_owned()));
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
    let db = engine::connect(
        location,
        server,
        ConnectionPurpose::Migrate,
        1,
        &Arc::default(),
    );
    let done = async {
        if !settings.create && !holds_our_schema(location, &db).await? {
            return Err(fail(NO_DATABASE.to_owned()));
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

/// Returns the migrations and whether each is applied; changes nothing.
///
/// # Errors
/// One sentence for the operator about what is wrong with the location or its data.
pub async fn migrations(settings: &Settings) -> Result<Vec<Migration>, OpenError> {
    let location = &settings.location;
    let (_directory_lock, server) = wait_for_server(settings).await?;
    let db = match location {
        Location::Sqlite(path) => sqlite::open_existing(path)
            .map_err(|reason| OpenError::new(location, &reason))?
            .ok_or_else(|| OpenError::new(location, "there is nothing there yet"))?,
        _ => engine::connect(
            location,
            server,
            ConnectionPurpose::Migrate,
            1,
            &Arc::default(),
        ),
    };
    let status = schema::status(&db).await;
    close(db).await;
    status
        .map_err(|error| OpenError::from_error(location, &error))?
        .map_err(|reason| OpenError::new(location, &reason))
}

/// Whether the file holds this service's database. Rejects any other file before anything in it is changed.
async fn inspect_file(location: &Location, path: &Path) -> Result<bool, OpenError> {
    let db = sqlite::open_existing(path).map_err(|reason| OpenError::new(location, &reason))?;
    let Some(db) = db else { return Ok(false) };
    let ours = holds_our_schema(location, &db).await;
    close(db).await;
    ours
}

/// Whether the database has this service's schema. Rejects one with another schema.
async fn holds_our_schema(location: &Location, db: &DatabaseConnection) -> Result<bool, OpenError> {
    let migrations = schema::status(db).await;
    let migrations = migrations.map_err(|error| OpenError::from_error(location, &error))?;
    let migrations = migrations.map_err(|reason| OpenError::new(location, &reason))?;
    Ok(migrations.iter().any(|migration| migration.applied))
}
