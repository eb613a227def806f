//! A separate database for each test: a SQLite file, or a database on the server that the tests run against.

use std::{env, path::Path};

use group_service::domain::GroupId;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend};
use tempfile::TempDir;

/// The variable with the URL of the server to run the tests against; test databases are created on that server.
pub(crate) const SERVER_URL_VARIABLE: &str = "GROUP_SERVICE_TEST_DATABASE_URL";

/// The variable that says that the server is temporary, so that its databases needn't be dropped.
pub(crate) const DISPOSABLE_VARIABLE: &str = "GROUP_SERVICE_TEST_THROWAWAY";

/// A database, dropped with this value.
pub(crate) struct Database {
    url: String,
    /// What to remove on drop.
    storage: DatabaseStorage,
}

enum DatabaseStorage {
    /// `None` if the file is in a directory that the test owns.
    Directory(#[expect(dead_code, reason = "held, so that it is removed")] Option<TempDir>),
    Server {
        url: String,
        name: String,
    },
}

impl Database {
    /// Creates an empty database.
    pub(crate) async fn create() -> Self {
        let Ok(server) = env::var(SERVER_URL_VARIABLE) else {
            return Self::file();
        };
        let name = format!("gs_{}", GroupId::generate().uuid().simple());
        execute(&server, &format!("CREATE DATABASE {name}")).await;
        Self {
            url: sibling_url(&server, &name),
            storage: DatabaseStorage::Server { url: server, name },
        }
    }

    /// Creates an empty SQLite file, whatever engine the tests run on.
    pub(crate) fn file() -> Self {
        let dir = tempfile::tempdir().expect("a directory for the database");
        let mut database = Self::at(&dir.path().join("test.db"));
        database.storage = DatabaseStorage::Directory(Some(dir));
        database
    }

    /// A SQLite file at this path; the test owns it.
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            url: format!("sqlite:{}", path.display()),
            storage: DatabaseStorage::Directory(None),
        }
    }

    /// A database that the test creates and removes itself.
    pub(crate) fn with_url(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            storage: DatabaseStorage::Directory(None),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Connects directly, without the service.
    pub(crate) async fn connect(&self) -> DatabaseConnection {
        sea_orm::Database::connect(&self.url).await.expect("opens")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let DatabaseStorage::Server { url, name } = &self.storage else {
            return;
        };
        if env::var_os(DISPOSABLE_VARIABLE).is_some() {
            return;
        }
        let force = if url.starts_with("postgres") {
            " WITH (FORCE)"
        } else {
            ""
        };
        let (url, sql) = (
            url.clone(),
            format!("DROP DATABASE IF EXISTS {name}{force}"),
        );
        // On another thread and without waiting for it: connections that the test opened are only closed after it
        // has ended.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async {
                // If the test has stopped the server, its databases are gone with it.
                if let Ok(db) = sea_orm::Database::connect(url).await {
                    let _ = db.execute_unprepared(&sql).await;
                }
            });
        });
    }
}

/// The engine that the tests run on.
pub(crate) fn engine() -> DbBackend {
    match env::var(SERVER_URL_VARIABLE) {
        Ok(url) if url.starts_with("postgres") => DbBackend::Postgres,
        Ok(_) => DbBackend::MySql,
        Err(_) => DbBackend::Sqlite,
    }
}

/// The URL of another database of the same server.
pub(crate) fn sibling_url(server: &str, name: &str) -> String {
    let (server, parameters) = server.split_at(server.find('?').unwrap_or(server.len()));
    let (server, _) = server.rsplit_once('/').expect("the URL names a database");
    format!("{server}/{name}{parameters}")
}

async fn execute(url: &str, sql: &str) {
    let db = sea_orm::Database::connect(url).await;
    let db = db.expect("the server of the tests can be reached");
    let done = db.execute_unprepared(sql).await;
    done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let _ = db.close().await;
}
