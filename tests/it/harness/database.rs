//! A database of one's own for every test: a file, or a database of the server that the tests are run against.

use std::{env, path::Path};

use group_service::domain::GroupId;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend};
use tempfile::TempDir;

/// Names a server to run the tests against, by the URL of a database where others may be created.
pub(crate) const SERVER: &str = "GROUP_SERVICE_TEST_DATABASE_URL";

/// Says that the server is thrown away with all that is in it.
pub(crate) const THROWAWAY: &str = "GROUP_SERVICE_TEST_THROWAWAY";

/// A database, gone at the end.
pub(crate) struct Database {
    url: String,
    /// The directory of a file, or where the server's databases are dropped.
    home: Home,
}

enum Home {
    /// None if the file is in a directory of the test's.
    Directory(#[expect(dead_code, reason = "held, so that it is removed")] Option<TempDir>),
    Server {
        url: String,
        name: String,
    },
}

impl Database {
    /// Makes an empty database.
    pub(crate) async fn create() -> Self {
        let Ok(server) = env::var(SERVER) else {
            return Self::file();
        };
        let name = format!("gs_{}", GroupId::generate().uuid().simple());
        execute(&server, &format!("CREATE DATABASE {name}")).await;
        Self {
            url: beside(&server, &name),
            home: Home::Server { url: server, name },
        }
    }

    /// An empty file of SQLite's, whatever the others are.
    pub(crate) fn file() -> Self {
        let dir = tempfile::tempdir().expect("a directory for the database");
        let mut database = Self::at(&dir.path().join("test.db"));
        database.home = Home::Directory(Some(dir));
        database
    }

    /// A file at a place of the test's own.
    pub(crate) fn at(path: &Path) -> Self {
        Self {
            url: format!("sqlite:{}", path.display()),
            home: Home::Directory(None),
        }
    }

    /// A database that the test looks after itself.
    pub(crate) fn elsewhere(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            home: Home::Directory(None),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// A look at it past the service.
    pub(crate) async fn connect(&self) -> DatabaseConnection {
        sea_orm::Database::connect(&self.url).await.expect("opens")
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Home::Server { url, name } = &self.home else {
            return;
        };
        if env::var_os(THROWAWAY).is_some() {
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
        // Elsewhere, and not waited for: what the test has opened is closed only when the test has ended.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async {
                // A server that the test has ended takes its databases along.
                if let Ok(db) = sea_orm::Database::connect(url).await {
                    let _ = db.execute_unprepared(&sql).await;
                }
            });
        });
    }
}

/// Which engine the tests run on.
pub(crate) fn engine() -> DbBackend {
    match env::var(SERVER) {
        Ok(url) if url.starts_with("postgres") => DbBackend::Postgres,
        Ok(_) => DbBackend::MySql,
        Err(_) => DbBackend::Sqlite,
    }
}

/// The URL of another database of the same server.
pub(crate) fn beside(server: &str, name: &str) -> String {
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
