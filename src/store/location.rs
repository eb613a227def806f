//! The location of the database, as a URL.

mod parameters;

use std::{path::PathBuf, str::FromStr};

use sqlx::{mysql::MySqlConnectOptions, postgres::PgConnectOptions};

use super::engine::{mysql, postgres};

/// Error message for a URL with another scheme.
const SCHEMES: &str =
    "the database URL must begin with `sqlite:`, `postgres://`, `mysql://` or `mariadb://`";

/// The location of the database.
#[derive(Clone, Debug)]
pub enum Location {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A database on PostgreSQL servers.
    Postgres(Servers<PgConnectOptions>),
    /// A database on MariaDB or MySQL servers.
    MySql(Servers<MySqlConnectOptions>),
}

/// Servers that hold the same database. The first one that accepts writes is used.
#[derive(Clone, Debug)]
pub struct Servers<O> {
    /// The connection options of each server.
    pub(super) options: Vec<O>,
    /// The URL without login and parameters, which may contain secrets.
    display_url: String,
}

/// The parts of a server URL.
struct Parts<'a> {
    /// User and password, with the `@` after them.
    login: &'a str,
    hosts: Vec<&'a str>,
    database: &'a str,
    /// Parameters, with the `?` before them.
    parameters: &'a str,
}

impl Location {
    /// Parses a database URL: `sqlite:` and the path of a file, or `postgres://`, `mysql://` or `mariadb://` and
    /// `user:password@host:port/database`. Several hosts are separated by commas.
    ///
    /// # Errors
    /// One sentence about what is wrong with it. It doesn't repeat the URL, which may contain a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            return file(path).map(Self::Sqlite);
        }
        let Some((scheme, rest)) = url.split_once("://") else {
            return Err(SCHEMES.to_owned());
        };
        match scheme {
            "postgres" | "postgresql" => {
                postgres::check_environment()?;
                Servers::parse(
                    "postgres",
                    rest,
                    postgres::with_defaults,
                    parameters::POSTGRES,
                )
                .map(Self::Postgres)
            }
            "mysql" | "mariadb" => {
                Servers::parse("mysql", rest, mysql::with_defaults, parameters::MYSQL)
                    .map(Self::MySql)
            }
            _ => Err(SCHEMES.to_owned()),
        }
    }

    /// The number of servers.
    pub(super) fn servers(&self) -> usize {
        match self {
            Self::Sqlite(_) => 1,
            Self::Postgres(servers) => servers.options.len(),
            Self::MySql(servers) => servers.options.len(),
        }
    }
}

impl<O: FromStr> Servers<O> {
    fn parse(
        scheme: &str,
        rest: &str,
        with_defaults: fn(O) -> O,
        known: &[&str],
    ) -> Result<Self, String> {
        let example = format!("such as `{scheme}://user:password@host/database`");
        let Parts {
            login,
            hosts,
            database,
            parameters,
        } = Parts::split(rest);
        if database.is_empty() {
            return Err(format!("the database URL must name a database, {example}"));
        }
        let unreadable = format!(
            "the database URL can't be read: it must be {example}, what is special in it percent-encoded"
        );
        // After an unescaped `/` in a password, the rest of it would be taken for the database name, which is shown.
        // After an unescaped `#` the driver would ignore everything, including TLS parameters.
        if database.contains(['@', '/']) || rest.contains('#') {
            return Err(unreadable);
        }
        parameters::check(parameters, known)?;
        let options = hosts.iter().map(|host| {
            let url = format!("{scheme}://{login}{host}/{database}{parameters}");
            url.parse()
                .map(with_defaults)
                .map_err(|_| unreadable.clone())
        });
        Ok(Self {
            options: options.collect::<Result<_, _>>()?,
            display_url: format!("{scheme}://{}/{database}", hosts.join(",")),
        })
    }
}

impl<'a> Parts<'a> {
    fn split(rest: &'a str) -> Self {
        let (rest, parameters) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
        Self {
            login,
            hosts: hosts.split(',').collect(),
            database,
            parameters,
        }
    }
}

fn file(path: &str) -> Result<PathBuf, String> {
    let path = path.strip_prefix("//").unwrap_or(path);
    if has_parameters(path) {
        return Err(
            "a `sqlite:` URL takes no parameters (`?name=value`): the file is created if it isn't there"
                .to_owned(),
        );
    }
    if path.is_empty() || path == ":memory:" {
        return Err(
            "a `sqlite:` URL must name a file, such as `sqlite:group-service.db`".to_owned(),
        );
    }
    // An absolute path, which SQLite can't take for one of its own URIs (`file:…`).
    std::path::absolute(path).map_err(|error| error.to_string())
}

/// Whether a path ends with `?name=value`, as in URLs of other programs. Any other `?` or `#` is part of the file name.
fn has_parameters(path: &str) -> bool {
    let name = path
        .rsplit_once('?')
        .and_then(|(_, last)| last.split_once('='));
    name.is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(servers) => servers.display_url.fmt(f),
            Self::MySql(servers) => servers.display_url.fmt(f),
        }
    }
}
