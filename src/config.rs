//! Every setting, documented once where it is defined: `--help` and `config example` are made from that.

mod callers;
mod command;
mod database;
pub mod file;
mod follow;
mod limits;
mod load;
mod network;
mod observing;
mod parse;
mod show;

use std::path::PathBuf;

use clap::Parser;

pub use self::{
    callers::{Authentication, Callers},
    command::{Command, ConfigStep, Migrate, TokenStep},
    database::Database,
    follow::follow,
    limits::Limits,
    load::{Loaded, Refused, Setting, Source},
    network::{Compression, Network},
    observing::{LogFormat, Observing},
    show::{example, show},
};

/// Groups, roles and users over gRPC: who may do what.
#[derive(Clone, Debug, Parser)]
#[command(name = "group-service", version)]
pub struct Config {
    /// Where it listens, and how connections are taken.
    #[command(flatten, next_help_heading = "Network")]
    pub network: Network,
    /// Who may call.
    #[command(flatten, next_help_heading = "Callers")]
    pub callers: Callers,
    /// How much of everything there may be.
    #[command(flatten, next_help_heading = "Limits")]
    pub limits: Limits,
    /// Where the data is.
    #[command(flatten, next_help_heading = "Data")]
    pub database: Database,
    /// What is told of it.
    #[command(flatten, next_help_heading = "Observing")]
    pub observing: Observing,
    /// A file of settings, in TOML: `config example` prints one. Variables and flags come before it
    #[arg(long, global = true, env = "GROUP_SERVICE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// What to do
    #[command(subcommand)]
    pub command: Option<Command>,
}

impl Config {
    /// Whether the settings go together.
    ///
    /// # Errors
    /// What is wrong with them, a sentence each.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let Network {
            listen,
            tls_certificate,
            tls_key,
            tls_client_ca,
            insecure,
            ..
        } = &self.network;
        let mut mistakes = Vec::new();
        if tls_certificate.is_some() != tls_key.is_some()
            || (tls_client_ca.is_some() && tls_key.is_none())
        {
            mistakes.push("TLS takes --tls-certificate and --tls-key".to_owned());
        }
        self.callers.check(tls_client_ca.is_some(), &mut mistakes);
        let known = self.callers.authentication == Authentication::Required;
        let safe = tls_certificate.is_some() && known;
        if !(*insecure || listen.ip().is_loopback() || safe) {
            mistakes.push(format!(
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
            mistakes.push("--default-deadline is longer than --max-deadline".to_owned());
        }
        if mistakes.is_empty() {
            Ok(())
        } else {
            Err(mistakes)
        }
    }
}
