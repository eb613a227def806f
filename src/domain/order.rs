//! The order of a list.

/// The sort key of a list; ties are broken by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortBy {
    /// The title, role name or username.
    Name,
    /// The creation time.
    CreateTime,
    /// The revision and the index within it; for changes only.
    Revision,
}

/// The sort key and direction of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The sort key.
    pub by: SortBy,
    /// Whether the order is descending.
    pub descending: bool,
}

impl Order {
    /// By name, ascending: the default of every list but that of changes.
    pub const BY_NAME: Self = Self {
        by: SortBy::Name,
        descending: false,
    };

    /// Parses the `order_by` of changes.
    ///
    /// # Errors
    /// What is wrong with the text, for the caller.
    pub fn parse_changes(text: &str) -> Result<Self, String> {
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

    /// Parses an `order_by` (AIP-132), where `name` is the list's term for its names.
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
