//! Text as people type it, and the keys that make it comparable on every database engine.

mod check;
mod query;

use icu_collator::{
    Collator, CollatorBorrowed, CollatorPreferences, options::CollatorOptions,
    preferences::CollationNumericOrdering,
};
use icu_normalizer::ComposingNormalizerBorrowed;
use sea_orm::DeriveValueType;
use std::sync::OnceLock;

use check::{check_characters, check_visible, forbidden_in_descriptions, forbidden_in_names};

pub use query::SearchQuery;

/// The longest [`Name`], [`Words`] or query, in Unicode scalar values.
const MAX_CHARS: usize = 255;
/// The longest [`Note`], in Unicode scalar values.
const MAX_NOTE_CHARS: usize = 1000;
/// Sort keys are cut to this many bytes: within the index limits of every engine (PostgreSQL has the
/// tightest, 2,704 bytes a row). Texts alike so far are in order of their ids.
const MAX_SORT_KEY_BYTES: usize = 1000;

/// A title, role name or username: NFC, trimmed, 1 to 255 characters, at least one of them visible, no control
/// characters, bidirectional controls, line or paragraph separators or noncharacters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, DeriveValueType)]
pub struct Name(String);

impl Name {
    /// Normalizes and checks a name.
    ///
    /// # Errors
    /// What is wrong with the text, for the caller.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = line(text)?;
        if text.is_empty() {
            return Err("must not be empty".to_owned());
        }
        Ok(Self(text))
    }

    /// A name as it is stored: one that an older version accepted stays readable.
    #[must_use]
    pub fn stored(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The name as it was typed, normalized and trimmed.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }

    /// The name as it was typed, normalized and trimmed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What may exist only once for a kind of thing.
    #[must_use]
    pub fn unique_key(&self) -> UniqueKey {
        UniqueKey(textkeys::unique_key(&self.0))
    }

    /// What lists are sorted by.
    #[must_use]
    pub fn sort_key(&self) -> SortKey {
        SortKey::of(&self.0)
    }
}

/// A person's first or last name: as a [`Name`], but it may be empty, and need not be unique.
#[derive(Clone, Debug, Default, PartialEq, Eq, DeriveValueType)]
pub struct Words(String);

impl Words {
    /// Normalizes and checks a line of text.
    ///
    /// # Errors
    /// What is wrong with the text, for the caller.
    pub fn parse(text: &str) -> Result<Self, String> {
        line(text).map(Self)
    }

    /// A line of text as it is stored: one that an older version accepted stays readable.
    #[must_use]
    pub fn stored(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text, normalized and trimmed.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// A description: NFC, trimmed, at most 1000 characters; line breaks and tabs are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq, DeriveValueType)]
pub struct Note(String);

impl Note {
    /// Normalizes and checks a description.
    ///
    /// # Errors
    /// What is wrong with the text, for the caller.
    pub fn parse(text: &str) -> Result<Self, String> {
        normalize(text, MAX_NOTE_CHARS, forbidden_in_descriptions).map(Self)
    }

    /// A description as it is stored: one that an older version accepted stays readable.
    #[must_use]
    pub fn stored(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The text, normalized and trimmed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text, normalized and trimmed.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

/// The digest of a name's `NFKC_Casefold`: the same for `Ops`, `OPS`, `ＯＰＳ` and `Ops` with a zero width space.
#[derive(Clone, Debug, PartialEq, Eq, DeriveValueType)]
pub struct UniqueKey(Vec<u8>);

/// A key whose bytes sort as the text does by the Unicode root collation, numbers by value (UTS #10).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, DeriveValueType)]
pub struct SortKey(Vec<u8>);

impl SortKey {
    fn of(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len() * 2);
        let Ok(()) = collator().write_sort_key_to(text, &mut bytes);
        bytes.truncate(MAX_SORT_KEY_BYTES);
        Self(bytes)
    }

    /// The key as it stands in a page token.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes that compare as the texts do.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Text in which the words of a [`SearchQuery`] are looked for: without regard to case, accents and invisible
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, DeriveValueType)]
pub struct Folded(String);

impl Folded {
    /// Folds a title or role name to search in.
    #[must_use]
    pub fn name(name: &Name) -> Self {
        Self(textkeys::search_text(&name.0))
    }

    /// Folds what a user is found by. No match spans two of them: the words of a query have no white space.
    #[must_use]
    pub fn user(username: &Name, first_name: &Words, last_name: &Words) -> Self {
        let Words(first) = first_name;
        let Words(last) = last_name;
        Self(textkeys::search_text(&format!(
            "{}\n{first} {last}",
            username.0
        )))
    }

    /// The folded text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn line(text: &str) -> Result<String, String> {
    let text = normalize(text, MAX_CHARS, forbidden_in_names)?;
    if !text.is_empty() {
        check_visible(&text)?;
    }
    Ok(text)
}

fn normalize(
    text: &str,
    max: usize,
    forbidden: fn(char) -> Option<&'static str>,
) -> Result<String, String> {
    let text = ComposingNormalizerBorrowed::new_nfc().normalize(text.trim());
    check_len(&text, max)?;
    check_characters(&text, forbidden)?;
    Ok(text.into_owned())
}

fn check_len(text: &str, max: usize) -> Result<(), String> {
    let len = text.chars().count();
    if len > max {
        return Err(format!("must be at most {max} characters, not {len}"));
    }
    Ok(())
}

fn collator() -> &'static CollatorBorrowed<'static> {
    static ROOT: OnceLock<CollatorBorrowed<'static>> = OnceLock::new();
    ROOT.get_or_init(|| {
        let mut root = CollatorPreferences::default();
        root.numeric_ordering = Some(CollationNumericOrdering::True);
        #[expect(
            clippy::expect_used,
            reason = "the root collation is compiled in; every test that sorts proves it"
        )]
        Collator::try_new(root, CollatorOptions::default()).expect("root collation is compiled in")
    })
}
