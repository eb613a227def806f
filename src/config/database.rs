use std::time::Duration;

use clap::Args;

use super::parse::{duration, max_staleness, size};
use crate::store::Location;

/// Database, cache and retention.
#[derive(Args, Clone, Debug)]
pub struct Database {
    /// Database URL: `sqlite:PATH` (created if it doesn't exist), or `postgres://`, `mysql://` or `mariadb://`
    /// followed by `user:password@host:port/database`; separate several hosts of one database by commas
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

    /// Database URL of a replica or of the nearest cluster node; reads go there while it is fresh enough for them
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_READ_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        value_parser = Location::parse
    )]
    pub read_database_url: Option<Location>,

    /// Number of database connections for calls; health probes, change polling and tokens use up to four more
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_DATABASE_CONNECTIONS",
        default_value_t = 10,
        value_name = "NUMBER",
        value_parser = clap::value_parser!(u32).range(2..=1000)
    )]
    pub database_connections: u32,

    /// How long to wait at startup for a database that isn't reachable yet
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_CONNECT_TIMEOUT",
        default_value = "30s",
        value_name = "TIME",
        value_parser = duration
    )]
    pub connect_timeout: Duration,

    /// Maximum memory of the cache, such as `64KiB`, `128MiB` or `2GiB`; `0` disables it
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_CACHE_MEMORY",
        default_value = "128MiB",
        value_name = "SIZE",
        value_parser = size
    )]
    pub cache_memory: u64,

    /// Maximum staleness of the cache or the replica, from 1s to 1m; if it is exceeded, reads go to the primary
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_MAX_STALENESS",
        default_value = "2s",
        value_name = "TIME",
        value_parser = max_staleness
    )]
    pub max_staleness: Duration,

    /// How long to keep changes, such as `90d`, `12h`, `30m` or `60s`; forever by default
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_CHANGES_RETENTION",
        value_name = "TIME",
        value_parser = duration
    )]
    pub changes_retention: Option<Duration>,
}
