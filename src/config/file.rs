//! The configuration file: TOML, whose keys are the settings' names.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::load::{arguments, is_many};

/// What a file sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name of the setting.
    pub key: String,
    /// In which line, from 1.
    pub line: usize,
    /// What it is set to, in words.
    pub values: Vec<String>,
}

/// One of so many letters may differ between a key and the one that was meant.
const NEAR: usize = 3;

/// Reads a file: what it sets, and its text. What is wrong with it is added to `mistakes`.
pub(super) fn read(
    path: &Path,
    command: &clap::Command,
    mistakes: &mut Vec<String>,
) -> (Vec<Entry>, String) {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            mistakes.push(format!("{}: {error}", path.display()));
            return (Vec::new(), String::new());
        }
    };
    let (entries, wrong) = parse(&text, command);
    for (line, reason) in wrong {
        mistakes.push(format!("{}:{line}: {reason}", path.display()));
    }
    (entries, text)
}

/// Reads a file's text: what it sets, and what is wrong with it, each with its line.
#[must_use]
pub fn parse(text: &str, command: &clap::Command) -> (Vec<Entry>, Vec<(usize, String)>) {
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
        let many = is_many(arg);
        let values = match value.into_inner() {
            DeValue::Array(values) if many => values
                .into_iter()
                .map(|value| word(value.get_ref()))
                .collect(),
            value if !many => word(&value).map(|value| vec![value]),
            _ => None,
        };
        match values {
            Some(values) => entries.push(Entry {
                key,
                line: at,
                values,
            }),
            None if many => wrong.push((at, format!("{key}: it must be a list of texts"))),
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

fn word(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Some(number.as_str().to_owned()),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(whether) => Some(whether.to_string()),
        _ => None,
    }
}

/// What is said of a key that isn't there, with the one that was probably meant.
fn unknown(key: &str, command: &clap::Command) -> String {
    // A long text takes long to compare, and resembles nothing.
    let key: String = key.chars().take(64).collect();
    let near = arguments(command)
        .map(|arg| {
            (
                strsim::damerau_levenshtein(&key, arg.get_id().as_str()),
                arg,
            )
        })
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= key.len() / NEAR);
    match near {
        Some((_, arg)) => format!("there is no setting {key}; was {} meant?", arg.get_id()),
        None => format!("there is no setting {key}"),
    }
}
