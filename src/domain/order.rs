//! The order of a list.

/// What a list is sorted by; rows alike in it are in order of their ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// The title, role name or username.
    Name,
    /// When the row was created.
    CreateTime,
    /// The revision, and the place in it: of changes only.
    Revision,
}

/// What a list is sorted by, and in which direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// What the list is sorted by.
    pub by: SortBy,
    /// Whether it begins with the greatest.
    pub descending: bool,
}

impl Order {
    /// By name, from the least: the default of every list.
    pub const BY_NAME: Self = Self {
        by: SortBy::Name,
        descending: false,
    };

    /// Reads the `order_by` of changes.
    ///
    /// # Errors
    /// What is wrong with the text, for the caller.
    pub fn of_changes(text: &str) -> Result<Self, String> {
        let words: Vec<_> = text.split_ascii_whitespace().collect();
        let descending = match words[..] {
            [] | ["revision"] => false,
            ["revision", "desc"] => true,
            _ => return Err("must be `revision` or `revision desc`".to_owned()),
        };
        Ok(Self {
            by: SortBy::Revision,
            descending,
        })
    }

    /// Reads an `order_by` (AIP-132), where `name` is what the list calls its names.
    ///
    /// # Errors
    /// What is wrong with the text, for the caller.
    pub fn parse(text: &str, name: &str) -> Result<Self, String> {
        let mut words = text.split_ascii_whitespace();
        let by = match words.next() {
            None => return Ok(Self::BY_NAME),
            Some(word) if word == name => Some(SortBy::Name),
            Some("create_time") => Some(SortBy::CreateTime),
            Some(_) => None,
        };
        let descending = match words.next() {
            None => Some(false),
            Some("desc") => Some(true),
            Some(_) => None,
        };
        match (by, descending, words.next()) {
            (Some(by), Some(descending), None) => Ok(Self { by, descending }),
            _ => Err(format!(
                "must be `{name}` or `create_time`, each optionally followed by ` desc`"
            )),
        }
    }
}
