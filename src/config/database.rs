use std::time::Duration;

use clap::Args;

use super::parse::{duration, max_staleness, size};
use crate::store::Location;

/// Where the data is, and how it is read.
#[derive(Args, Clone, Debug)]
pub struct Database {
    /// Where the data is: `sqlite:` and the path of a file, created if it isn't there; or `postgres://`,
    /// `mysql://` or `mariadb://` and `user:password@host:port/database`, where several hosts of the same
    /// database are separated by commas
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_DATABASE_URL",
        default_value = "sqlite:group-service.db",
        value_name = "URL",
        hide_env_values = true,
        value_parser = Location::parse
    )]
    pub database_url: Location,

    /// Where the data can be read, too: a replica, or the nearest node of a cluster. Reads go there when it has
    /// come as far as they ask for
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_READ_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        value_parser = Location::parse
    )]
    pub read_database_url: Option<Location>,

    /// How many connections to the database calls share, beside up to four for its health, changes and tokens
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_DATABASE_CONNECTIONS",
        default_value_t = 10,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(2..=1000)
    )]
    pub database_connections: u32,

    /// How long a start waits for a database that isn't there yet
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_CONNECT_TIMEOUT",
        default_value = "30s",
        value_name = "TIME",
        value_parser = duration
    )]
    pub connect_timeout: Duration,

    /// How much memory answers may be kept in, such as `64KiB`, `128MiB` or `2GiB`; `0` switches it off
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_CACHE_MEMORY",
        default_value = "128MiB",
        value_name = "SIZE",
        value_parser = size
    )]
    pub cache_memory: u64,

    /// How old the state may be that a read is answered with, from memory or by the replica: beyond it the primary
    /// answers. From 1s to 1m
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_STALENESS",
        default_value = "2s",
        value_name = "TIME",
        value_parser = max_staleness
    )]
    pub max_staleness: Duration,

    /// How long changes are kept, such as `90d`, `12h`, `30m` or `60s`; for ever if it isn't given
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_CHANGES_RETENTION",
        value_name = "TIME",
        value_parser = duration
    )]
    pub changes_retention: Option<Duration>,
}
