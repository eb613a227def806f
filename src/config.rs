//! Every setting, documented once: here, and in `--help`, which is made from it.

mod parse;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::filter::Targets;

use self::parse::{duration, listen, log_filter, size, token_id};
use crate::{
    auth::Grant,
    domain::{Caller, Permissions, TokenId},
};

/// What is logged by default: calls, and what goes wrong. Migrations speak up only when they fail.
const DEFAULT_LOG: &str = "info,sea_orm_migration=warn,sqlx=warn";

/// Groups, roles and users over gRPC: who may do what.
#[derive(Clone, Debug, Parser)]
#[command(name = "group-service", version)]
pub struct Config {
    /// The address to listen on; port 0 takes a free one
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_LISTEN",
        default_value = "127.0.0.1:50051",
        value_name = "IP:PORT",
        value_parser = listen
    )]
    pub listen: SocketAddr,

    /// Whether callers must be known: by a token, which `group-service token` makes, or by a certificate of
    /// `--tls-client-ca`; with `off` everybody may do everything
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_AUTHENTICATION",
        default_value = "off",
        value_name = "WHETHER"
    )]
    pub authentication: Authentication,

    /// What callers may do who are known by a certificate of this name (URI or DNS name), or of one that begins so
    /// if it ends with `*`; may be given several times
    #[arg(
        long = "grant",
        global = true,
        env = "GROUP_SERVICE_GRANTS",
        value_name = "CALLER=PERMISSIONS",
        value_delimiter = ' ',
        value_parser = Grant::parse
    )]
    pub grants: Vec<Grant>,

    /// The server's certificate and those between it and its authority, in PEM; read again when it changes
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_TLS_CERTIFICATE",
        value_name = "FILE"
    )]
    pub tls_certificate: Option<PathBuf>,

    /// The key of the server's certificate, in PEM
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_TLS_KEY",
        value_name = "FILE"
    )]
    pub tls_key: Option<PathBuf>,

    /// The authorities of callers' certificates, in PEM
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_TLS_CLIENT_CA",
        value_name = "FILE"
    )]
    pub tls_client_ca: Option<PathBuf>,

    /// Listen beyond loopback although callers aren't known, or what is sent can be read and changed on the way
    #[arg(long, global = true, env = "GROUP_SERVICE_INSECURE")]
    pub insecure: bool,

    /// Where the data is: `sqlite:` and the path of a file, created if it isn't there; or `postgres://`,
    /// `mysql://` or `mariadb://` and `user:password@host:port/database`, where several hosts of the same
    /// database are separated by commas
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_DATABASE_URL",
        default_value = "sqlite:group-service.db",
        value_name = "URL",
        hide_env_values = true
    )]
    // Read by `Location::parse`, not here: clap repeats what it refuses, and a URL may hold a password.
    pub database_url: String,

    /// Where the data can be read, too: a replica, or the nearest node of a cluster. Reads go there when it has
    /// come as far as they ask for
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_READ_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub read_database_url: Option<String>,

    /// How many connections to the database calls share, beside one that looks after its health
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

    /// Whether calls may be compressed: `gzip` takes compressed requests, and compresses answers to callers who take
    /// that
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_COMPRESSION",
        default_value = "off",
        value_name = "ENCODING"
    )]
    pub compression: Compression,

    /// The address to tell Prometheus on, at `/metrics`; port 0 takes a free one. Nobody is told if it isn't given
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_METRICS_LISTEN",
        value_name = "IP:PORT",
        value_parser = listen
    )]
    pub metrics_listen: Option<SocketAddr>,

    /// What to log: a level (error, warn, info, debug, trace), or a list such as
    /// `info,group_service=debug`
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_LOG",
        default_value = DEFAULT_LOG,
        value_name = "FILTER",
        value_parser = log_filter
    )]
    pub log: Targets,

    /// How long changes are kept, such as `90d`, `12h`, `30m` or `60s`; for ever if it isn't given
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_CHANGES_RETENTION",
        value_name = "TIME",
        value_parser = duration
    )]
    pub changes_retention: Option<Duration>,

    /// What to do
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// How callers are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Authentication {
    /// Not at all.
    Off,
    /// By a token or a certificate.
    Required,
}

/// How calls may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    /// Not at all.
    Off,
    /// As RFC 1952 has it.
    Gzip,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM or SIGINT: the default
    Serve,
    /// Look after the database's schema
    Migrate {
        /// What to do with it
        #[command(subcommand)]
        step: Migrate,
    },
    /// Look after the tokens that callers are known by
    Token {
        /// What to do with them
        #[command(subcommand)]
        step: TokenStep,
    },
}

/// What to do with tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenStep {
    /// Make one, and show it this once
    Create {
        /// The name that the caller's changes are recorded under
        #[arg(value_parser = Caller::parse)]
        caller: Caller,
        /// What the caller may do, separated by commas: read, check, write, audit; all for these; act-as to name
        /// other actors in `x-actor`
        #[arg(long, value_name = "PERMISSIONS", value_parser = Permissions::parse)]
        permissions: Permissions,
        /// How long it is valid, such as `90d` or `12h`; until it is revoked if it isn't given
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expires: Option<Duration>,
    },
    /// List them
    List,
    /// Revoke one: within a second no instance accepts it any more
    Revoke {
        /// Its id, as `list` tells it
        #[arg(value_parser = token_id)]
        id: TokenId,
    },
}

/// What to do with the database's schema.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum Migrate {
    /// Bring it to this version's, as every start does
    Up,
    /// Take its last migration back, with all the data that it made room for
    Down,
    /// Tell which migrations it has
    Status,
}
