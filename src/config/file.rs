//! The configuration file: TOML, with the settings' names as keys.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::load::{arguments, is_list};

/// One setting in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Name of the setting.
    pub key: String,
    /// Line number, from 1.
    pub line: usize,
    /// Its values, as text.
    pub values: Vec<String>,
}

/// A known setting is suggested for an unknown key if at most one in this many bytes of the key differs.
const MAX_DISTANCE_DIVISOR: usize = 3;

/// Reads a file and returns its entries and its text; errors are appended to `errors`.
pub(super) fn read(
    path: &Path,
    command: &clap::Command,
    errors: &mut Vec<String>,
) -> (Vec<FileEntry>, String) {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            errors.push(format!("{}: {error}", path.display()));
            return (Vec::new(), String::new());
        }
    };
    let (entries, wrong) = parse(&text, command);
    for (line, reason) in wrong {
        errors.push(format!("{}:{line}: {reason}", path.display()));
    }
    (entries, text)
}

/// Parses a file's text into its entries and its errors, each with its line number.
#[must_use]
pub fn parse(text: &str, command: &clap::Command) -> (Vec<FileEntry>, Vec<(usize, String)>) {
    let line = |at: usize| {
        text.as_bytes()
            .iter()
            .take(at)
            .filter(|byte| **byte == b'\n')
            .count()
            + 1
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut wrong: Vec<_> = errors
        .iter()
        .map(|error| {
            (
                line(error.span().map_or(0, |span| span.start)),
                error.message().to_owned(),
            )
        })
        .collect();
    let mut entries = Vec::new();
    for (key, value) in table.into_inner() {
        let at = line(key.span().start);
        let key = key.into_inner().into_owned();
        let Some(arg) = arguments(command).find(|arg| arg.get_id().as_str() == key) else {
            wrong.push((at, unknown(&key, command)));
            continue;
        };
        let is_list = is_list(arg);
        let values = match value.into_inner() {
            DeValue::Array(values) if is_list => values
                .into_iter()
                .map(|value| scalar_text(value.get_ref()))
                .collect(),
            value if !is_list => scalar_text(&value).map(|value| vec![value]),
            _ => None,
        };
        match values {
            Some(values) => entries.push(FileEntry {
                key,
                line: at,
                values,
            }),
            None if is_list => wrong.push((at, format!("{key}: it must be a list of texts"))),
            None => wrong.push((
                at,
                format!("{key}: it must be one value: a text, a number, true or false"),
            )),
        }
    }
    entries.sort_by_key(|entry| entry.line);
    wrong.sort();
    (entries, wrong)
}

fn scalar_text(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(whether) => Some(whether.to_string()),
        _ => None,
    }
}

/// The error for an unknown key, with the most similar setting as a suggestion.
fn unknown(key: &str, command: &clap::Command) -> String {
    // Long keys are slow to compare, and resemble no setting.
    let key: String = key.chars().take(64).collect();
    let near = arguments(command)
        .map(|arg| {
            (
                strsim::damerau_levenshtein(&key, arg.get_id().as_str()),
                arg,
            )
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= key.len() / MAX_DISTANCE_DIVISOR);
    match near {
        Some((_, arg)) => format!("there is no setting {key}; was {} meant?", arg.get_id()),
        None => format!("there is no setting {key}"),
    }
}
