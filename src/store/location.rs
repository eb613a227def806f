//! Where the data is: database URLs.

mod parameters;

use std::{path::PathBuf, str::FromStr};

use sqlx::{mysql::MySqlConnectOptions, postgres::PgConnectOptions};

use super::engine::{mysql, postgres};

/// What a URL is told that begins otherwise.
const SCHEMES: &str =
    "the database URL must begin with `sqlite:`, `postgres://`, `mysql://` or `mariadb://`";

/// Where the data is.
#[derive(Clone, Debug)]
pub enum Location {
    /// A file of SQLite's.
    Sqlite(PathBuf),
    /// A database of a PostgreSQL server.
    Postgres(Servers<PgConnectOptions>),
    /// A database of a MariaDB or MySQL server.
    MySql(Servers<MySqlConnectOptions>),
}

/// Servers that hold the same database: the first of them that takes writes is the one that is used.
#[derive(Clone, Debug)]
pub struct Servers<O> {
    /// How to connect to each.
    pub(super) options: Vec<O>,
    /// The URL without what is secret in it.
    shown: String,
}

/// The parts of a URL of servers.
struct Parts<'a> {
    /// User and password, with the `@` behind them.
    login: &'a str,
    hosts: Vec<&'a str>,
    database: &'a str,
    /// Parameters, with the `?` before them.
    parameters: &'a str,
}

impl Location {
    /// Reads a database URL: `sqlite:` and the path of a file, or `postgres://`, `mysql://` or `mariadb://` and
    /// `user:password@host:port/database`. Several hosts are separated by commas.
    ///
    /// # Errors
    /// One sentence on what is wrong with it. It doesn't repeat the URL, which might hold a password.
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
                Servers::parse("postgres", rest, postgres::configured, parameters::POSTGRES)
                    .map(Self::Postgres)
            }
            "mysql" | "mariadb" => {
                Servers::parse("mysql", rest, mysql::configured, parameters::MYSQL).map(Self::MySql)
            }
            _ => Err(SCHEMES.to_owned()),
        }
    }

    /// How many servers there are to choose from.
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
        configured: fn(O) -> O,
        known: &[&str],
    ) -> Result<Self, String> {
        let example = format!("such as `{scheme}://user:password@host/database`");
        let Parts {
            login,
            hosts,
            database,
            parameters,
        } = Parts::of(rest);
        if database.is_empty() {
            return Err(format!("the database URL must name a database, {example}"));
        }
        let unreadable = format!(
            "the database URL can't be read: it must be {example}, what is special in it percent-encoded"
        );
        // An unescaped `/` in a password would make the rest of it the name of a database, which is shown. Behind an
        // unescaped `#` the driver would read nothing, parameters for TLS included.
        if database.contains(['@', '/']) || rest.contains('#') {
            return Err(unreadable);
        }
        parameters::check(parameters, known)?;
        let options = hosts.iter().map(|host| {
            let url = format!("{scheme}://{login}{host}/{database}{parameters}");
            url.parse().map(configured).map_err(|_| unreadable.clone())
        });
        Ok(Self {
            options: options.collect::<Result<_, _>>()?,
            shown: format!("{scheme}://{}/{database}", hosts.join(",")),
        })
    }
}

impl<'a> Parts<'a> {
    fn of(rest: &'a str) -> Self {
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
    // Absolute, so that SQLite can't take it for one of its own URIs (`file:…`).
    std::path::absolute(path).map_err(|error| error.to_string())
}

/// Whether a path ends with `?name=value`, as URLs of other programs do. Any other `?` or `#` is a part of its name.
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
            Self::Postgres(servers) => servers.shown.fmt(f),
            Self::MySql(servers) => servers.shown.fmt(f),
        }
    }
}
