use std::{path::PathBuf, time::Duration};

use clap::Subcommand;
use clap_complete::Shell;

use super::parse::{duration, token_id};
use crate::domain::{Caller, Permissions, TokenId};

/// Commands of the program.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM or SIGINT (the default)
    Serve,
    /// Check or print the configuration
    Config {
        /// Subcommand
        #[command(subcommand)]
        action: ConfigAction,
    },
    /// Manage the database schema
    Migrate {
        /// Subcommand
        #[command(subcommand)]
        action: MigrateAction,
    },
    /// Manage the tokens that callers authenticate with
    Token {
        /// Subcommand
        #[command(subcommand)]
        action: TokenAction,
    },
    /// Check whether the local server with the same settings is serving; exits with 0 if it is and 1 if it isn't,
    /// for containers and systemd
    Healthcheck,
    /// Back up a SQLite database to a file; works while a server has it open
    Backup {
        /// Destination file; it must not exist
        file: PathBuf,
    },
    /// Restore a SQLite database from a backup, with a new history id; stop the server first
    Restore {
        /// Backup file
        file: PathBuf,
        /// Only verify the backup and print what it contains
        #[arg(long)]
        check: bool,
        /// Restore even if a running server holds the lock of the old database: that server stops serving
        #[arg(long, conflicts_with = "check")]
        force: bool,
    },
    /// Assign a new history id so that watchers notice lost revisions; run after restoring with database tools, with all instances stopped
    NewHistory,
    /// Print a shell completion script
    Completions {
        /// Shell
        shell: Shell,
    },
    /// Print the manual page; pipe it to `man -l -`
    Man,
}

/// Subcommands of `config`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigAction {
    /// Validate all settings, including the certificates; changes nothing
    Check,
    /// Print every setting and where it comes from; passwords are redacted
    Show,
    /// Print a configuration file with every setting, its description and its default
    Example,
}

/// Subcommands of `token`.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenAction {
    /// Create a token and print it; it can't be shown again
    Create {
        /// Caller name, recorded as the actor of the caller's changes
        #[arg(value_parser = Caller::parse)]
        caller: Caller,
        /// Permissions, separated by commas: read, check, write, audit; all grants these four; act-as allows
        /// setting another actor in `x-actor`
        #[arg(long, value_name = "PERMISSIONS", value_parser = Permissions::parse)]
        permissions: Permissions,
        /// Lifetime, such as `90d` or `12h`; by default the token is valid until revoked
        #[arg(long, value_name = "TIME", value_parser = duration)]
        expires: Option<Duration>,
    },
    /// List all tokens
    List,
    /// Revoke a token; every instance rejects it within a second
    Revoke {
        /// Token id, as printed by `token list`
        #[arg(value_parser = token_id)]
        id: TokenId,
    },
}

/// Subcommands of `migrate`.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum MigrateAction {
    /// Apply all pending migrations, as every server start does
    Up,
    /// Revert the last migration, deleting the data it introduced
    Down,
    /// List the migrations and whether each is applied
    Status,
}
