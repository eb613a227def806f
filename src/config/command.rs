use std::{path::PathBuf, time::Duration};

use clap::Subcommand;
use clap_complete::Shell;

use super::parse::{duration, token_id};
use crate::domain::{Caller, Permissions, TokenId};

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM or SIGINT: the default
    Serve,
    /// Look after the configuration
    Config {
        /// What to do with it
        #[command(subcommand)]
        step: ConfigStep,
    },
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
    /// Ask the server that runs here with the same settings whether it serves; exits with 0, or with 1 if it
    /// doesn't, for containers and systemd
    Healthcheck,
    /// Copy a SQLite database to a file, while it is served or not
    Backup {
        /// The file; it must not be there yet
        file: PathBuf,
    },
    /// Make a SQLite database from a backup, with another history id, while no server has it open
    Restore {
        /// The backup
        file: PathBuf,
        /// Only check the backup, and tell what is in it
        #[arg(long)]
        check: bool,
        /// Restore even if a running server holds the lock of the old database: that server stops serving
        #[arg(long, conflicts_with = "check")]
        force: bool,
    },
    /// Give the directory another history id, so that followers of the old one are told: after a restore by the
    /// database's own tools, with all instances stopped
    NewHistory,
    /// Print what lets a shell complete this program's arguments
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page, for `man -l -`
    Man,
}

/// What to do with the configuration.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum ConfigStep {
    /// Look whether a start would take it, the certificates included; changes nothing
    Check,
    /// Tell every setting, and where it was found; passwords are left out
    Show,
    /// Print a file with every setting, what it means and what it is if nothing is said
    Example,
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
