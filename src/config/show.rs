//! Output of `config show` and `config example`.

use std::fmt::Write;

use clap::CommandFactory;

use super::{
    Config, SettingSource,
    load::{Setting, arguments, is_list},
};
use crate::store::Location;

/// Maximum width of a comment line, in characters.
const WIDTH: usize = 118;

/// The settings in the format of the configuration file, each with its source. Secrets are redacted.
#[must_use]
pub fn show(settings: &[Setting]) -> String {
    let mut text = String::new();
    let mut heading = "";
    for setting in settings {
        if setting.heading != heading {
            heading = &setting.heading;
            let separator = if text.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{separator}# {heading}");
        }
        let Setting {
            key,
            values,
            source,
            secret,
            is_list,
            ..
        } = setting;
        let values: Vec<_> = values
            .iter()
            .map(|value| display_value(value, *secret))
            .collect();
        let from = match source {
            SettingSource::Default => String::new(),
            source => format!("  # {source}"),
        };
        let _ = match values.first() {
            None if *is_list => writeln!(text, "{key} = []"),
            None => writeln!(text, "#{key} is not set"),
            Some(_) if *is_list => writeln!(text, "{key} = [{}]{from}", values.join(", ")),
            Some(value) => writeln!(text, "{key} = {value}{from}"),
        };
    }
    text
}

/// A configuration file with every setting, its description and its default.
#[must_use]
pub fn example() -> String {
    let command = Config::command();
    let mut text = "# Every setting of group-service, as it is if nothing is said: uncomment what you change.\n\
        # Variables (GROUP_SERVICE_LISTEN) come before what is here, and flags (--listen) before those.\n"
        .to_owned();
    let mut heading = "";
    for arg in arguments(&command) {
        let own = arg.get_help_heading().unwrap_or_default();
        if own != heading {
            heading = own;
            let _ = writeln!(text, "\n## {heading}");
        }
        text.push('\n');
        let help = arg.get_long_help().or(arg.get_help());
        comment(
            &mut text,
            &help.map(ToString::to_string).unwrap_or_default(),
        );
        let key = arg.get_id();
        let default = arg.get_default_values().first();
        let name = arg.get_value_names().and_then(|names| names.first());
        let _ = match (default, name) {
            (Some(value), _) => writeln!(text, "#{key} = {}", quoted(&value.to_string_lossy())),
            (None, Some(name)) if is_list(arg) => writeln!(text, "#{key} = [\"{name}\"]"),
            (None, name) => writeln!(
                text,
                "#{key} = \"{}\"",
                name.map_or("", |name| name.as_str())
            ),
        };
    }
    text
}

fn comment(text: &mut String, help: &str) {
    let mut line = String::from("#");
    for word in help.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line.truncate(1);
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(text, "{line}");
}

fn display_value(value: &str, secret: bool) -> String {
    match Location::parse(value) {
        Ok(Location::Sqlite(_)) if secret => quoted(value),
        // The `Display` of a location omits user, password and parameters.
        Ok(location) if secret => quoted(&location.to_string()),
        _ => quoted(&without_secrets(value)),
    }
}

/// Redacts the parts of a URL that may be secret: user and password, query and fragment. Other values are unchanged.
fn without_secrets(value: &str) -> String {
    let Some((scheme, rest)) = value.split_once("://") else {
        return value.to_owned();
    };
    match rest.split_once(['?', '#']) {
        // A password may contain any of the delimiters, so its end can't be determined.
        _ if rest.contains('@') => format!("{scheme}://hidden"),
        Some((address, _)) => format!("{scheme}://{address}?hidden"),
        None => value.to_owned(),
    }
}

/// Formats a value as TOML.
fn quoted(value: &str) -> String {
    if value.parse::<u32>().is_ok() || value.parse::<bool>().is_ok() {
        return value.to_owned();
    }
    let mut text = String::from("\"");
    for char in value.chars() {
        match char {
            '"' | '\\' => text.extend(['\\', char]),
            char if char.is_control() => {
                let _ = write!(text, "\\u{:04X}", u32::from(char));
            }
            char => text.push(char),
        }
    }
    text.push('"');
    text
}
