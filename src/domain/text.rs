//! Text as people type it, and the keys that make it comparable on every database engine.

use icu_casemap::CaseMapper;
use icu_collator::{
    Collator, CollatorBorrowed, CollatorPreferences, options::CollatorOptions,
    preferences::CollationNumericOrdering,
};
use icu_normalizer::ComposingNormalizerBorrowed;
use sea_orm::DeriveValueType;
use sha2::{Digest, Sha256};
use std::sync::OnceLock;

/// The longest [`Name`], [`Words`] or query, in Unicode scalar values.
const MAX_CHARS: usize = 255;
/// The longest [`Note`], in Unicode scalar values.
const MAX_NOTE_CHARS: usize = 1000;
/// Sort keys are cut to this many bytes: within the index limits of every engine (PostgreSQL has the
/// tightest, 2,704 bytes a row). Texts alike so far are in order of their ids.
const MAX_SORT_KEY_BYTES: usize = 1000;

/// A title, role name or username: NFC, trimmed, 1 to 255 characters, no control characters.
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
        UniqueKey(Sha256::digest(fold(&self.0)).to_vec())
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
        normalize(text, MAX_NOTE_CHARS, |c| {
            c.is_control() && !matches!(c, '\n' | '\r' | '\t')
        })
        .map(Self)
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

/// The digest (SHA-256) of a name's NFKC case folding: alike for `Ops`, `OPS` and `ＯＰＳ`.
///
/// A digest, because the folding of 255 characters can be longer than a database can index.
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

/// Text as it is searched: a query and what it is looked for in are folded alike.
#[derive(Clone, Debug, PartialEq, Eq, DeriveValueType)]
pub struct Folded(String);

impl Folded {
    /// Folds a query that a caller typed. An empty one asks for nothing.
    ///
    /// # Errors
    /// What is wrong with the text, for the caller.
    pub fn query(text: &str) -> Result<Option<Self>, String> {
        // Not trimmed: `team ` is a search for a word that ends there.
        check_len(text, MAX_CHARS)?;
        check_controls(text, char::is_control)?;
        Ok((!text.is_empty()).then(|| Self(fold(text))))
    }

    /// Folds a title or role name to search in.
    #[must_use]
    pub fn name(name: &Name) -> Self {
        Self(fold(&name.0))
    }

    /// Folds what a user is found by. No match spans the username and the names, because a query has no
    /// line break; one may span the first and last name.
    #[must_use]
    pub fn user(username: &Name, first_name: &Words, last_name: &Words) -> Self {
        let Words(first) = first_name;
        let Words(last) = last_name;
        Self(fold(&format!("{}\n{first} {last}", username.0)))
    }

    /// The folded text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn line(text: &str) -> Result<String, String> {
    normalize(text, MAX_CHARS, char::is_control)
}

fn normalize(text: &str, max: usize, forbidden: fn(char) -> bool) -> Result<String, String> {
    let text = ComposingNormalizerBorrowed::new_nfc().normalize(text.trim());
    check_len(&text, max)?;
    check_controls(&text, forbidden)?;
    Ok(text.into_owned())
}

fn check_len(text: &str, max: usize) -> Result<(), String> {
    let len = text.chars().count();
    if len > max {
        return Err(format!("must be at most {max} characters, not {len}"));
    }
    Ok(())
}

fn check_controls(text: &str, forbidden: fn(char) -> bool) -> Result<(), String> {
    match text.chars().find(|c| forbidden(*c)) {
        Some(c) => Err(format!(
            "must not contain the control character U+{:04X}",
            u32::from(c)
        )),
        None => Ok(()),
    }
}

/// Compatibility caseless form: NFKC(fold(NFKC(fold(NFD(X))))), Unicode Standard 3.13, D146.
fn fold(text: &str) -> String {
    let nfkc = ComposingNormalizerBorrowed::new_nfkc();
    let case = CaseMapper::new();
    let decomposed = icu_normalizer::DecomposingNormalizerBorrowed::new_nfd().normalize(text);
    let once = case.fold_string(&decomposed);
    let once = nfkc.normalize(&once);
    let twice = case.fold_string(&once);
    nfkc.normalize(&twice).into_owned()
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
