//! Merges the settings of the file, the environment and the flags, in rising precedence, and collects every error.

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

/// The configuration, and the source of each setting.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// All settings, in the order of their definition.
    pub settings: Vec<Setting>,
    /// Text of the file when it was loaded, so that [`super::watch_file`] misses no later change.
    pub(super) contents: Option<String>,
}

/// One setting with its values and its source.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its key in the configuration file.
    pub key: String,
    /// Its values, as text; empty if it isn't set.
    pub values: Vec<String>,
    /// Where the values come from.
    pub source: SettingSource,
    /// Whether it may contain a secret, such as the password in a URL.
    pub secret: bool,
    /// Whether it takes several values.
    pub is_list: bool,
    /// Its section in `--help` and in the configuration file.
    pub heading: String,
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingSource {
    /// It isn't set anywhere.
    Default,
    /// The configuration file, at this line.
    File(PathBuf, usize),
    /// This environment variable.
    Variable(String),
    /// This flag.
    Flag(String),
}

/// Why loading the configuration failed.
#[derive(Debug)]
pub enum LoadError {
    /// The command line is invalid, or asks for help or the version.
    Usage(clap::Error),
    /// Settings are invalid: one sentence for each error.
    Invalid(Vec<String>),
}

impl std::fmt::Display for SettingSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The settings that a configuration file may contain: all global arguments but `--config`.
pub(super) fn arguments(command: &clap::Command) -> impl Iterator<Item = &Arg> {
    let settings = command.get_arguments().filter(|arg| arg.is_global_set());
    settings.filter(|arg| arg.get_id() != "config")
}

/// Whether a setting may contain a secret, such as the password in a URL.
pub(super) fn is_secret(arg: &Arg) -> bool {
    arg.is_hide_env_values_set()
}

impl Config {
    /// Loads the configuration from the command line, the environment and the file that one of them names.
    ///
    /// # Errors
    /// All errors of all sources at once.
    pub fn load(args: impl IntoIterator<Item = OsString>) -> Result<Loaded, LoadError> {
        let args: Vec<_> = args.into_iter().collect();
        let command = Self::command();
        // First without parsing values: clap would stop at the first invalid one.
        let words = command.clone().mut_args(|arg| match arg.is_global_set() {
            true => arg.value_parser(clap::value_parser!(OsString)),
            false => arg,
        });
        let found = words
            .try_get_matches_from(&args)
            .map_err(LoadError::Usage)?;
        let mut errors = Vec::new();
        let path = found.get_one::<OsString>("config").map(PathBuf::from);
        let read = path
            .as_ref()
            .map(|path| file::read(path, &command, &mut errors));
        let (entries, contents) = read.unzip();
        let entries = entries.unwrap_or_default();
        for (arg, entry) in of(&command, &entries) {
            let path = path.as_deref().unwrap_or(Path::new(""));
            let place = format!("{}:{}: {}", path.display(), entry.line, entry.key);
            check(arg, &entry.values, &place, &mut errors);
        }
        let mut settings = Vec::new();
        for arg in arguments(&command) {
            let entry = entries
                .iter()
                .find(|entry| entry.key == arg.get_id().as_str());
            let at = entry.and_then(|entry| Some(SettingSource::File(path.clone()?, entry.line)));
            let setting = setting(arg, &found, entry.map(|entry| &entry.values[..]).zip(at));
            match &setting.source {
                SettingSource::Variable(place) | SettingSource::Flag(place) => {
                    check(arg, &setting.values, place, &mut errors);
                }
                SettingSource::Default | SettingSource::File(..) => {}
            }
            settings.push(setting);
        }
        if !errors.is_empty() {
            return Err(LoadError::Invalid(errors));
        }
        let mut command = command;
        for entry in entries {
            command = command.mut_arg(entry.key, |arg| arg.default_values(entry.values));
        }
        let found = command
            .try_get_matches_from(args)
            .map_err(LoadError::Usage)?;
        let config = Self::from_arg_matches(&found).map_err(LoadError::Usage)?;
        config.check().map_err(LoadError::Invalid)?;
        Ok(Loaded {
            config,
            settings,
            contents,
        })
    }
}

/// The entries, each with the argument that it sets.
fn of<'a>(
    command: &'a clap::Command,
    entries: &'a [file::FileEntry],
) -> impl Iterator<Item = (&'a Arg, &'a file::FileEntry)> {
    entries.iter().filter_map(|entry| {
        let arg = arguments(command).find(|arg| arg.get_id().as_str() == entry.key);
        Some((arg?, entry))
    })
}

fn setting(arg: &Arg, found: &ArgMatches, entry: Option<(&[String], SettingSource)>) -> Setting {
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
            (given(), SettingSource::Flag(format!("--{flag}")))
        }
        (Some(ValueSource::EnvVariable), _) => {
            let name = arg.get_env().unwrap_or_default();
            (
                given(),
                SettingSource::Variable(name.to_string_lossy().into_owned()),
            )
        }
        (_, Some((values, source))) => (values.to_vec(), source),
        _ => {
            let values = &mut arg.get_default_values().iter().map(|value| &**value);
            (words(values), SettingSource::Default)
        }
    };
    Setting {
        key: id.to_owned(),
        values,
        source,
        secret: is_secret(arg),
        is_list: is_list(arg),
        heading: arg.get_help_heading().unwrap_or_default().to_owned(),
    }
}

/// Whether a setting takes several values.
pub(super) fn is_list(arg: &Arg) -> bool {
    matches!(arg.get_action(), clap::ArgAction::Append)
}

/// Validates the values of a setting; appends an error for each invalid one.
fn check(arg: &Arg, values: &[String], place: &str, errors: &mut Vec<String>) {
    let flag = arg.get_long().unwrap_or_default();
    for value in values {
        let alone = clap::Command::new("setting")
            .no_binary_name(true)
            .arg(arg.clone().env(clap::builder::Resettable::Reset));
        let Err(error) = alone.try_get_matches_from([format!("--{flag}={value}")]) else {
            continue;
        };
        let reason = reason(&error);
        // A URL may have been given for another setting: text before an `@` may be a password, and text after a `?`
        // a key.
        errors.push(match is_secret(arg) || value.contains(['@', '?']) {
            true => format!("{place}: {reason}"),
            false => format!("{place}: '{value}': {reason}"),
        });
    }
}

/// What is wrong with a value.
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
