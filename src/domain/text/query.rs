//! Search queries.

use std::cmp::Reverse;

use super::{
    MAX_CHARS,
    check::{check_characters, forbidden_in_queries},
    check_len,
};

/// Maximum number of words in a query: each is compared with every row that may match.
const MAX_WORDS: usize = 10;

/// The words of a query, all of which a text must contain, in any order; normalized like [`super::SearchText`].
///
/// Sorted by length, the longest first, which the fewest texts contain. Words that are part of another one are dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchQuery(Vec<String>);

impl SearchQuery {
    /// Splits a query into words; `None` if it has none.
    ///
    /// # Errors
    /// What is wrong with the text, for the caller.
    pub fn parse(text: &str) -> Result<Option<Self>, String> {
        let text = text.trim();
        check_len(text, MAX_CHARS)?;
        check_characters(text, forbidden_in_queries)?;
        let text = textkeys::search_text(text);
        let mut candidates: Vec<&str> = text.split_whitespace().collect();
        candidates.sort_unstable_by_key(|word| (Reverse(word.len()), *word));
        let mut words: Vec<String> = Vec::new();
        for word in candidates {
            if !words.iter().any(|longer| longer.contains(word)) {
                words.push(word.to_owned());
            }
        }
        if words.len() > MAX_WORDS {
            return Err(format!(
                "must be at most {MAX_WORDS} different words, not {}",
                words.len()
            ));
        }
        Ok((!words.is_empty()).then_some(Self(words)))
    }

    /// The words.
    #[must_use]
    pub fn words(&self) -> &[String] {
        &self.0
    }
}
