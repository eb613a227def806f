use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::Targets;

use super::parse::{listen, log_filter, otlp_endpoint, ratio};

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

    /// What a line of the log looks like
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,

    /// Where to send spans, by OTLP over gRPC: the address of a collector. Nothing is sent if it isn't given
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_OTLP_ENDPOINT",
        hide_env_values = true,
        value_name = "URL",
        value_parser = otlp_endpoint
    )]
    pub otlp_endpoint: Option<String>,

    /// Of which part of the calls to send spans, from 0 to 1; where the caller traces its call, the caller decides
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_OTLP_SAMPLE",
        default_value = "0.1",
        value_name = "RATIO",
        value_parser = ratio
    )]
    pub otlp_sample: f64,
}

/// What a line of the log looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object, for programs.
    Json,
}
