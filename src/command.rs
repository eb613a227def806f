//! What is done instead of serving.

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

/// Does it; or tells the exit code, and one sentence on what is wrong.
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
        Command::Config { step } => config::config(loaded, *step),
        Command::Migrate { step } => migrate::migrate(settings, *step)
            .await
            .map_err(|error| (EXIT_USAGE, error.to_string())),
        Command::Token { step } => token::token(settings, step).await,
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
        // Not on standard output, which programs read.
        let _ = writeln!(std::io::stderr(), "database: {}", settings.location);
    }
    Ok(())
}

/// A time as RFC 3339 has it, to the second.
fn told(time: group_service::domain::Timestamp) -> String {
    let seconds = time.micros().div_euclid(1_000_000);
    prost_types::Timestamp { seconds, nanos: 0 }.to_string()
}
