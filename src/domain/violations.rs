//! Every violation of a request, collected before any of them is answered.

use std::{collections::BTreeSet, fmt::Display, ops::RangeInclusive};

use super::{Id, Name};

/// One thing that is wrong with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field as the proto names it, with an index where it is repeated: `role_ids[3]`.
    pub field: String,
    /// What is wrong with it, as the end of the sentence that the field begins.
    pub description: String,
}

/// The violations of a request that were found so far.
///
/// Each check answers `None` where it found one, so that the request can be read to its end.
#[derive(Debug, Default)]
pub struct Violations(Vec<FieldViolation>);

impl Violations {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The violations in the order in which they were found.
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

    /// Takes the value of a check, or its complaint about `field`, whose name is made only for that.
    pub fn check<T, E: Display>(&mut self, field: impl Display, result: Result<T, E>) -> Option<T> {
        result
            .map_err(|error| self.add(field.to_string(), error.to_string()))
            .ok()
    }

    /// Reads a required id.
    pub fn id<T: Id>(&mut self, field: impl Display, text: &str) -> Option<T> {
        let id = T::parse(text);
        if id.is_none() {
            self.add(field.to_string(), not_a_uuid(text));
        }
        id
    }

    /// Reads an id that may be left out: `Some(None)` if it is.
    pub fn optional_id<T: Id>(&mut self, field: &str, text: &str) -> Option<Option<T>> {
        if text.is_empty() {
            return Some(None);
        }
        self.id(field, text).map(Some)
    }

    /// Reads a list of ids, each given once.
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
                // A list without bounds gets no list of complaints without bounds.
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

    /// Reads a text that may be left as it is: `Some(None)` if it is absent.
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

    /// Reads a required name.
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
