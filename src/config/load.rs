//! Where settings come from: a file, the environment, flags, in rising order; and every mistake in them at once.

use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

use clap::{
    Arg, ArgMatches, CommandFactory, FromArgMatches,
    error::{ContextKind, ContextValue},
    parser::ValueSource,
};

use super::{Config, file};

/// The configuration, and where each setting comes from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What was configured.
    pub config: Config,
    /// Each setting in the order of their definition.
    pub settings: Vec<Setting>,
    /// What stood in the file, so that no change of it is missed.
    pub(super) contents: Option<String>,
}

/// A setting as it was found.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What it is called in a file.
    pub key: String,
    /// What it is set to, in words; nothing, and it isn't set.
    pub values: Vec<String>,
    /// Where that was found.
    pub source: Source,
    /// Whether it is a URL that may hold a password, or another secret.
    pub secret: bool,
    /// Whether there may be several.
    pub many: bool,
    /// Which part of the settings it belongs to.
    pub heading: String,
}

/// Where a setting was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere: it is what it usually is.
    Default,
    /// In the configuration file, in this line.
    File(PathBuf, usize),
    /// In this variable.
    Variable(String),
    /// In this flag.
    Flag(String),
}

/// Why there is no configuration.
#[derive(Debug)]
pub enum Refused {
    /// The command line can't be understood, or asks for help.
    Usage(clap::Error),
    /// What is wrong with the settings: a sentence each.
    Mistakes(Vec<String>),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The settings that there are: all that a file may set.
pub(super) fn arguments(command: &clap::Command) -> impl Iterator<Item = &Arg> {
    let settings = command.get_arguments().filter(|arg| arg.is_global_set());
    settings.filter(|arg| arg.get_id() != "config")
}

/// Whether a setting is a URL that may hold a password, or another secret.
pub(super) fn is_secret(arg: &Arg) -> bool {
    arg.is_hide_env_values_set()
}

impl Config {
    /// Gathers the configuration from the command line, the environment and the file that one of them names.
    ///
    /// # Errors
    /// What is wrong with it, all of it.
    pub fn load(args: impl IntoIterator<Item = OsString>) -> Result<Loaded, Refused> {
        let args: Vec<_> = args.into_iter().collect();
        let command = Self::command();
        // First as words only: clap would end at the first that is wrong.
        let words = command.clone().mut_args(|arg| match arg.is_global_set() {
            true => arg.value_parser(clap::value_parser!(OsString)),
            false => arg,
        });
        let found = words.try_get_matches_from(&args).map_err(Refused::Usage)?;
        let mut mistakes = Vec::new();
        let path = found.get_one::<OsString>("config").map(PathBuf::from);
        let read = path
            .as_ref()
            .map(|path| file::read(path, &command, &mut mistakes));
        let (entries, contents) = read.unzip();
        let entries = entries.unwrap_or_default();
        for (arg, entry) in of(&command, &entries) {
            let path = path.as_deref().unwrap_or(Path::new(""));
            let place = format!("{}:{}: {}", path.display(), entry.line, entry.key);
            check(arg, &entry.values, &place, &mut mistakes);
        }
        let mut settings = Vec::new();
        for arg in arguments(&command) {
            let entry = entries
                .iter()
                .find(|entry| entry.key == arg.get_id().as_str());
            let at = entry.and_then(|entry| Some(Source::File(path.clone()?, entry.line)));
            let setting = setting(arg, &found, entry.map(|entry| &entry.values[..]).zip(at));
            match &setting.source {
                Source::Variable(place) | Source::Flag(place) => {
                    check(arg, &setting.values, place, &mut mistakes);
                }
                Source::Default | Source::File(..) => {}
            }
            settings.push(setting);
        }
        if !mistakes.is_empty() {
            return Err(Refused::Mistakes(mistakes));
        }
        let mut command = command;
        for entry in entries {
            command = command.mut_arg(entry.key, |arg| arg.default_values(entry.values));
        }
        let found = command.try_get_matches_from(args).map_err(Refused::Usage)?;
        let config = Self::from_arg_matches(&found).map_err(Refused::Usage)?;
        config.check().map_err(Refused::Mistakes)?;
        Ok(Loaded {
            config,
            settings,
            contents,
        })
    }
}

/// The entries, each with the setting that it sets.
fn of<'a>(
    command: &'a clap::Command,
    entries: &'a [file::Entry],
) -> impl Iterator<Item = (&'a Arg, &'a file::Entry)> {
    entries.iter().filter_map(|entry| {
        let arg = arguments(command).find(|arg| arg.get_id().as_str() == entry.key);
        Some((arg?, entry))
    })
}

fn setting(arg: &Arg, found: &ArgMatches, entry: Option<(&[String], Source)>) -> Setting {
    let id = arg.get_id().as_str();
    let words = |values: &mut dyn Iterator<Item = &OsStr>| -> Vec<String> {
        values
            .map(|value| value.to_string_lossy().into_owned())
            .collect()
    };
    let given = || words(&mut found.get_raw(id).into_iter().flatten());
    let (values, source) = match (found.value_source(id), entry) {
        (Some(ValueSource::CommandLine), _) => {
            let flag = arg.get_long().unwrap_or(id);
            (given(), Source::Flag(format!("--{flag}")))
        }
        (Some(ValueSource::EnvVariable), _) => {
            let name = arg.get_env().unwrap_or_default();
            (
                given(),
                Source::Variable(name.to_string_lossy().into_owned()),
            )
        }
        (_, Some((values, source))) => (values.to_vec(), source),
        _ => {
            let values = &mut arg.get_default_values().iter().map(|value| &**value);
            (words(values), Source::Default)
        }
    };
    Setting {
        key: id.to_owned(),
        values,
        source,
        secret: is_secret(arg),
        many: is_many(arg),
        heading: arg.get_help_heading().unwrap_or_default().to_owned(),
    }
}

/// Whether there may be several of it.
pub(super) fn is_many(arg: &Arg) -> bool {
    matches!(arg.get_action(), clap::ArgAction::Append)
}

/// Looks whether a setting may have these values.
fn check(arg: &Arg, values: &[String], place: &str, mistakes: &mut Vec<String>) {
    let flag = arg.get_long().unwrap_or_default();
    for value in values {
        let alone = clap::Command::new("setting")
            .no_binary_name(true)
            .arg(arg.clone().env(clap::builder::Resettable::Reset));
        let Err(error) = alone.try_get_matches_from([format!("--{flag}={value}")]) else {
            continue;
        };
        let reason = reason(&error);
        // Where an address is wanted, what stands before an @ may be a password, and what stands behind a ? a key.
        mistakes.push(match is_secret(arg) || value.contains(['@', '?']) {
            true => format!("{place}: {reason}"),
            false => format!("{place}: '{value}': {reason}"),
        });
    }
}

/// What a value should have been.
fn reason(error: &clap::Error) -> String {
    if let Some(source) = std::error::Error::source(error) {
        return source.to_string();
    }
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) if !values.is_empty() => {
            format!("it must be one of {}", values.join(", "))
        }
        _ => "there must be a value".to_owned(),
    }
}
