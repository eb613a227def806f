//! Commands other than serving.

mod backup;
mod config;
mod healthcheck;
mod migrate;
mod print;
mod token;

use std::io::Write;

use group_service::{
    config::{Command, Loaded},
    store::Settings,
};

use crate::EXIT_USAGE;

/// Runs a command. The error is the exit code and one sentence on what is wrong.
pub(super) async fn run(
    command: &Command,
    loaded: &Loaded,
    settings: &Settings,
) -> Result<(), (u8, String)> {
    let uses_database = matches!(
        command,
        Command::Migrate { .. }
            | Command::Token { .. }
            | Command::NewHistory
            | Command::Backup { .. }
            | Command::Restore { check: false, .. }
    );
    match command {
        Command::Serve => Ok(()),
        Command::Config { action } => config::config(loaded, *action),
        Command::Migrate { action } => migrate::migrate(settings, *action)
            .await
            .map_err(|error| (EXIT_USAGE, error.to_string())),
        Command::Token { action } => token::token(settings, action).await,
        Command::Healthcheck => healthcheck::healthcheck(&loaded.config).await,
        Command::Backup { file } => backup::backup(settings, file).await,
        Command::Restore { file, check, force } => {
            backup::restore(settings, file, *check, *force).await
        }
        Command::NewHistory => backup::new_history(settings).await,
        Command::Completions { shell } => print::completions(*shell),
        Command::Man => print::man(),
    }?;
    if uses_database {
        // Standard error: programs read standard output.
        let _ = writeln!(std::io::stderr(), "database: {}", settings.location);
    }
    Ok(())
}

/// Formats a time by RFC 3339, to the second.
fn format_time(time: group_service::domain::Timestamp) -> String {
    let seconds = time.micros().div_euclid(1_000_000);
    prost_types::Timestamp { seconds, nanos: 0 }.to_string()
}
