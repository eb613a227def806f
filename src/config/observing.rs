use std::net::SocketAddr;

use clap::Args;
use tracing_subscriber::filter::Targets;

use super::parse::{listen, log_filter};

/// What is logged by default: calls, and what goes wrong. Migrations speak up only when they fail.
const DEFAULT_LOG: &str = "info,sea_orm_migration=warn,sqlx=warn";

/// What is told of it, and to whom.
#[derive(Args, Clone, Debug)]
pub struct Observing {
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
}
