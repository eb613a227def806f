//! Collects all violations of a request, so that they are reported together.

use std::{collections::BTreeSet, fmt::Display, ops::RangeInclusive};

use super::{Id, Name};

/// A violation of a request field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field's name in the proto, with an index if it is repeated: `role_ids[3]`.
    pub field: String,
    /// What is wrong with it: a predicate whose subject is the field, such as `must not be empty`.
    pub description: String,
}

/// The violations of a request found so far.
///
/// Each check returns `None` if it found a violation, so that the rest of the request can still be checked.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Whether there are no violations.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The violations, in the order in which they were found.
    #[must_use]
    pub fn into_vec(self) -> Vec<FieldViolation> {
        self.0
    }

    /// Adds a violation.
    pub fn add(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.0.push(FieldViolation {
            field: field.into(),
            description: description.into(),
        });
    }

    /// Returns the value of a check, or adds its error as a violation of `field`. `field` is formatted only in that
    /// case.
    pub fn check<T, E: Display>(&mut self, field: impl Display, result: Result<T, E>) -> Option<T> {
        result
            .map_err(|error| self.add(field.to_string(), error.to_string()))
            .ok()
    }

    /// Parses a required id.
    pub fn id<T: Id>(&mut self, field: impl Display, text: &str) -> Option<T> {
        let id = T::parse(text);
        if id.is_none() {
            self.add(field.to_string(), not_a_uuid(text));
        }
        id
    }

    /// Parses an optional id: `Some(None)` if it is empty.
    pub fn optional_id<T: Id>(&mut self, field: &str, text: &str) -> Option<Option<T>> {
        if text.is_empty() {
            return Some(None);
        }
        self.id(field, text).map(Some)
    }

    /// Parses a list of ids without duplicates.
    pub fn ids<T: Id>(
        &mut self,
        field: &str,
        texts: &[String],
        count: RangeInclusive<usize>,
    ) -> Option<Vec<T>> {
        let before = self.0.len();
        if !count.contains(&texts.len()) {
            let (least, most) = count.into_inner();
            let len = texts.len();
            self.add(
                field,
                format!("must have {least} to {most} entries, not {len}"),
            );
            if len > most {
                // An oversized list must not produce an unbounded list of violations.
                return None;
            }
        }
        let mut seen = BTreeSet::new();
        let mut ids = Vec::with_capacity(texts.len());
        for (index, text) in texts.iter().enumerate() {
            let field = format!("{field}[{index}]");
            if let Some(id) = self.id::<T>(&field, text) {
                if seen.insert(id) {
                    ids.push(id);
                } else {
                    self.add(field, format!("must not be given twice: {text}"));
                }
            }
        }
        (self.0.len() == before).then_some(ids)
    }

    /// Parses a text that an update may leave unchanged: `Some(None)` if it is absent.
    pub fn optional<T>(
        &mut self,
        field: &str,
        text: Option<&str>,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<Option<T>> {
        match text {
            Some(text) => self.check(field, parse(text)).map(Some),
            None => Some(None),
        }
    }

    /// Parses a required name.
    pub fn name(&mut self, field: &str, text: &str) -> Option<Name> {
        self.check(field, Name::parse(text))
    }
}

fn not_a_uuid(text: &str) -> &'static str {
    if text.is_empty() {
        "must be given"
    } else {
        "must be a UUID in its hyphenated form"
    }
}
