use std::net::SocketAddr;

use clap::{Args, ValueEnum};
use tracing_subscriber::filter::Targets;

use super::parse::{listen, log_filter, otlp_endpoint, ratio};

/// The default log filter: calls and errors; of migrations and statements, warnings only.
const DEFAULT_LOG: &str = "info,sea_orm_migration=warn,sqlx=warn";

/// Metrics, logs and traces.
#[derive(Args, Clone, Debug)]
pub struct Observability {
    /// Address of the HTTP listener for `/metrics`, `/livez` and `/readyz`; port 0 selects a free port. Disabled by
    /// default
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_METRICS_LISTEN",
        value_name = "IP:PORT",
        value_parser = listen
    )]
    pub metrics_listen: Option<SocketAddr>,

    /// Log filter: a level (error, warn, info, debug, trace, off), or a list such as `info,group_service=debug`
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_LOG",
        default_value = DEFAULT_LOG,
        value_name = "FILTER",
        value_parser = log_filter
    )]
    pub log: Targets,

    /// Log line format
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT"
    )]
    pub log_format: LogFormat,

    /// URL of the collector to export spans to, by OTLP over gRPC; tracing is disabled by default
    #[arg(
        long,
        global = true,
        env = "GROUP_SERVICE_OTLP_ENDPOINT",
        hide_env_values = true,
        value_name = "URL",
        value_parser = otlp_endpoint
    )]
    pub otlp_endpoint: Option<String>,

    /// Ratio of calls to trace, from 0 to 1; if the caller sends a `traceparent`, its sampling decision is followed
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

/// Log line format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Plain text, for people.
    Text,
    /// One JSON object per line, for programs.
    Json,
}
