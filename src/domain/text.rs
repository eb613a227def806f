//! Texts as people type them, and the keys that make them comparable on every database engine.

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

/// The longest [`Name`], [`PersonName`] or query, in Unicode scalar values.
const MAX_CHARS: usize = 255;
/// The longest [`Description`], in Unicode scalar values.
const MAX_DESCRIPTION_CHARS: usize = 1000;
/// Sort keys are truncated to this many bytes to stay within the index limits of every engine (PostgreSQL has the
/// tightest, 2,704 bytes a row). Texts whose truncated keys are equal are ordered by id.
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
        let text = single_line(text)?;
        if text.is_empty() {
            return Err("must not be empty".to_owned());
        }
        Ok(Self(text))
    }

    /// A stored name, not checked: names that an older version accepted stay readable.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
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

    /// The key that must be unique among resources of a kind.
    #[must_use]
    pub fn unique_key(&self) -> UniqueKey {
        UniqueKey(textkeys::unique_key(&self.0))
    }

    /// The key that lists are sorted by.
    #[must_use]
    pub fn sort_key(&self) -> SortKey {
        SortKey::from_text(&self.0)
    }
}

/// A person's first or last name: like a [`Name`], but it may be empty, and needn't be unique.
#[derive(Clone, Debug, Default, PartialEq, Eq, DeriveValueType)]
pub struct PersonName(String);

impl PersonName {
    /// Normalizes and checks a first or last name.
    ///
    /// # Errors
    /// What is wrong with the text, for the caller.
    pub fn parse(text: &str) -> Result<Self, String> {
        single_line(text).map(Self)
    }

    /// A stored first or last name, not checked: names that an older version accepted stay readable.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
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
pub struct Description(String);

impl Description {
    /// Normalizes and checks a description.
    ///
    /// # Errors
    /// What is wrong with the text, for the caller.
    pub fn parse(text: &str) -> Result<Self, String> {
        normalize(text, MAX_DESCRIPTION_CHARS, forbidden_in_descriptions).map(Self)
    }

    /// A stored description, not checked: descriptions that an older version accepted stay readable.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// Whether it is empty.
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

/// A key whose bytes sort like the text by the Unicode root collation, with numbers by value (UTS #10).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, DeriveValueType)]
pub struct SortKey(Vec<u8>);

impl SortKey {
    fn from_text(text: &str) -> Self {
        let mut bytes = Vec::with_capacity(text.len() * 2);
        let Ok(()) = collator().write_sort_key_to(text, &mut bytes);
        bytes.truncate(MAX_SORT_KEY_BYTES);
        Self(bytes)
    }

    /// The key from a page token.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes of the key.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Text in which the words of a [`SearchQuery`] are searched, ignoring case, accents and invisible characters.
#[derive(Clone, Debug, PartialEq, Eq, DeriveValueType)]
pub struct SearchText(String);

impl SearchText {
    /// The search text of a title or role name.
    #[must_use]
    pub fn name(name: &Name) -> Self {
        Self(textkeys::search_text(&name.0))
    }

    /// The search text of a user. No match spans the username and the names, or both names: the words of a query have
    /// no white space.
    #[must_use]
    pub fn user(username: &Name, first_name: &PersonName, last_name: &PersonName) -> Self {
        let PersonName(first) = first_name;
        let PersonName(last) = last_name;
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

fn single_line(text: &str) -> Result<String, String> {
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
