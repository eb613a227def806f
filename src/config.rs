//! Every setting, documented once where it is defined: `--help`, the manual page and `config example` are generated
//! from these doc comments.

mod callers;
mod command;
mod database;
pub mod file;
mod limits;
mod load;
mod network;
mod observability;
mod parse;
mod show;
mod watch;

use std::path::PathBuf;

use clap::Parser;

pub use self::{
    callers::{Authentication, Callers},
    command::{Command, ConfigAction, MigrateAction, TokenAction},
    database::Database,
    limits::Limits,
    load::{LoadError, Loaded, Setting, SettingSource},
    network::{Compression, Network},
    observability::{LogFormat, Observability},
    show::{example, show},
    watch::watch_file,
};

/// Groups, roles and users over gRPC: who may do what.
#[derive(Clone, Debug, Parser)]
#[command(name = "group-service", version)]
pub struct Config {
    /// Listening address, TLS, compression and reflection.
    #[command(flatten, next_help_heading = "Network")]
    pub network: Network,
    /// Authentication and permissions of callers.
    #[command(flatten, next_help_heading = "Callers")]
    pub callers: Callers,
    /// Deadlines, queues, rates, connections and memory.
    #[command(flatten, next_help_heading = "Limits")]
    pub limits: Limits,
    /// Database, cache and retention.
    #[command(flatten, next_help_heading = "Data")]
    pub database: Database,
    /// Metrics, logs and traces.
    #[command(flatten, next_help_heading = "Observability")]
    pub observability: Observability,
    /// Configuration file, in TOML (`config example` prints one); environment variables and flags override it
    #[arg(long, global = true, env = "GROUP_SERVICE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Command to run; `serve` by default
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Config {
    /// Checks that the settings are consistent with each other.
    ///
    /// # Errors
    /// Every inconsistency, one sentence each.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let Network {
            listen,
            tls_certificate,
            tls_key,
            tls_client_ca,
            insecure,
            ..
        } = &self.network;
        let mut errors = Vec::new();
        if tls_certificate.is_some() != tls_key.is_some()
            || (tls_client_ca.is_some() && tls_key.is_none())
        {
            errors.push("TLS takes --tls-certificate and --tls-key".to_owned());
        }
        self.callers.check(tls_client_ca.is_some(), &mut errors);
        let known = self.callers.authentication == Authentication::Required;
        let safe = tls_certificate.is_some() && known;
        if !(*insecure || listen.ip().is_loopback() || safe) {
            errors.push(format!(
                "--listen {listen}: beyond loopback it takes --tls-certificate and --authentication required, or \
                 --insecure"
            ));
        }
        let Limits {
            default_deadline,
            max_deadline,
            ..
        } = &self.limits;
        if default_deadline > max_deadline {
            errors.push("--default-deadline is longer than --max-deadline".to_owned());
        }
        if errors.is_empty() {
            Ok(())
        } else {
            Err(errors)
        }
    }
}
