//! Keyset pagination: a page begins after the last row of the previous page, wherever that row is by now.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use sea_orm::prelude::Uuid;
use sha2::{Digest, Sha256};

use super::{Order, Revision, SearchQuery, SortBy, SortKey, Timestamp, Violations};

const DEFAULT_SIZE: u16 = 50;
const MAX_SIZE: u16 = 1000;
/// Two sort keys of 1,000 bytes, two ids, a tag and the base64 overhead: no token from this service is longer.
const MAX_TOKEN_CHARS: usize = 2800;
const TAG_BYTES: usize = 16;
const ID_BYTES: usize = 16;

/// The requested part of a list.
#[derive(Clone, Debug)]
pub struct PageRequest {
    /// Maximum number of rows: 1 to 1000.
    pub size: u16,
    /// The row after which the page begins; `None` for the first page.
    pub after: Option<Cursor>,
    /// The order of the list.
    pub order: Order,
    /// What page tokens of this list are bound to.
    pub scope: Scope,
}

impl PageRequest {
    /// Parses `page_size` and `page_token`; `None` if either is invalid.
    pub fn parse(
        violations: &mut Violations,
        page_size: i32,
        page_token: &str,
        order: Option<Order>,
        scope: Option<Scope>,
    ) -> Option<Self> {
        let size = match u16::try_from(page_size) {
            Ok(0) => Some(DEFAULT_SIZE),
            Ok(size) => Some(size.min(MAX_SIZE)),
            Err(_) if page_size > 0 => Some(MAX_SIZE),
            Err(_) => {
                violations.add("page_size", "must not be negative");
                None
            }
        };
        // With an invalid filter or order, the token can't be checked.
        let order = order?;
        let scope = scope?.order(order);
        let after = match page_token {
            "" => Some(None),
            token => {
                let cursor = PageToken::parse(token, &scope, order);
                if cursor.is_none() {
                    violations.add(
                        "page_token",
                        "must be the next_page_token of a call with the same filter and order",
                    );
                }
                cursor.map(Some)
            }
        };
        Some(Self {
            size: size?,
            after: after?,
            order,
            scope,
        })
    }
}

/// A position in a list: after the row with this key and id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// The row's sort key.
    pub key: CursorKey,
    /// The row's id, which breaks ties between equal keys; nil where the key is unique.
    pub id: Uuid,
    /// Position in the row's nested list. If set, the next page starts with the same row and continues that list.
    pub within: Option<Box<Cursor>>,
}

/// The key of a [`Cursor`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorKey {
    /// In a list sorted by name.
    Name(SortKey),
    /// In a list sorted by creation time.
    CreateTime(Timestamp),
    /// In a list of changes: the revision and the index within it.
    Change(Revision, i32),
}

/// What a page token is bound to: the list, its filter and its order, as a digest.
#[derive(Clone, Debug)]
pub struct Scope(Sha256);

impl Scope {
    /// Binds to a list.
    #[must_use]
    pub fn new(list: &str) -> Self {
        Self(Sha256::new()).bytes(list.as_bytes())
    }

    /// Binds to an id, if the filter has one.
    #[must_use]
    pub fn id(self, id: Option<Uuid>) -> Self {
        self.bytes(id.as_ref().map_or(&[], |id| id.as_bytes()))
    }

    /// Binds to the words of the search query, if any.
    #[must_use]
    pub fn text(self, query: Option<&SearchQuery>) -> Self {
        let words = query.map_or(String::new(), |query| query.words().join(" "));
        self.bytes(words.as_bytes())
    }

    /// Binds to some texts.
    #[must_use]
    pub fn words(self, words: &[&str]) -> Self {
        words
            .iter()
            .fold(self, |scope, word| scope.bytes(word.as_bytes()))
    }

    /// Binds to a number.
    #[must_use]
    pub fn number(self, number: i32) -> Self {
        self.bytes(&number.to_be_bytes())
    }

    /// Binds to positions in nested lists, whose tokens have a different format.
    fn within(&self) -> Self {
        self.clone().bytes(b"within")
    }

    fn order(self, Order { by, descending }: Order) -> Self {
        let by = match by {
            SortBy::Name => 0,
            SortBy::CreateTime => 1,
            SortBy::Revision => 2,
        };
        self.bytes(&[by, u8::from(descending)])
    }

    /// Each value is preceded by its length, so that different filters have different digests.
    fn bytes(self, bytes: &[u8]) -> Self {
        let Self(digest) = self;
        Self(
            digest
                .chain_update(bytes.len().to_be_bytes())
                .chain_update(bytes),
        )
    }

    fn tag(&self, payload: &[u8]) -> [u8; TAG_BYTES] {
        let digest = self.0.clone().chain_update(payload).finalize();
        std::array::from_fn(|i| digest[i])
    }
}

/// Page tokens: a [`Cursor`] and a tag over it and its [`Scope`], in base64.
///
/// The tag detects tokens that were altered or belong to another list. It is not secret and needn't be: a forged token
/// only begins a page elsewhere in a list that the caller may read anyway.
#[derive(Debug)]
pub struct PageToken;

impl PageToken {
    /// The token of the page after `cursor`.
    #[must_use]
    pub fn encode(cursor: &Cursor, scope: &Scope) -> String {
        match &cursor.within {
            None => Self::seal(&cursor.to_bytes(), scope),
            Some(within) => {
                let within = within.to_bytes();
                let length = (within.len() as u32).to_be_bytes();
                let payload = [&length[..], &within, &cursor.to_bytes()].concat();
                Self::seal(&payload, &scope.within())
            }
        }
    }

    /// Prepends the tag to a payload and encodes both.
    pub(crate) fn seal(payload: &[u8], scope: &Scope) -> String {
        BASE64_URL_SAFE_NO_PAD.encode([&scope.tag(payload), payload].concat())
    }

    fn parse(token: &str, scope: &Scope, order: Order) -> Option<Cursor> {
        if token.len() > MAX_TOKEN_CHARS {
            return None;
        }
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(token).ok()?;
        let (tag, payload) = bytes.split_at_checked(TAG_BYTES)?;
        if tag == scope.tag(payload) {
            return Cursor::from_bytes(payload, order.by);
        }
        if tag != scope.within().tag(payload) {
            return None;
        }
        let (length, rest) = payload.split_at_checked(4)?;
        let length = u32::from_be_bytes(length.try_into().ok()?);
        let (within, rest) = rest.split_at_checked(length.try_into().ok()?)?;
        let within = Cursor::from_bytes(within, SortBy::Name)?;
        Some(Cursor {
            within: Some(Box::new(within)),
            ..Cursor::from_bytes(rest, order.by)?
        })
    }
}

impl Cursor {
    /// Encodes the id and the key, without `within`.
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.id.as_bytes().to_vec();
        match &self.key {
            CursorKey::Name(key) => bytes.extend_from_slice(key.as_bytes()),
            CursorKey::CreateTime(time) => bytes.extend_from_slice(&time.micros().to_be_bytes()),
            CursorKey::Change(revision, index) => {
                bytes.extend_from_slice(&revision.number().to_be_bytes());
                bytes.extend_from_slice(&index.to_be_bytes());
            }
        }
        bytes
    }

    fn from_bytes(bytes: &[u8], by: SortBy) -> Option<Self> {
        let (id, key) = bytes.split_at_checked(ID_BYTES)?;
        let number = |bytes: &[u8]| Some(i64::from_be_bytes(bytes.try_into().ok()?));
        let key = match by {
            SortBy::Name => CursorKey::Name(SortKey::from_bytes(key.to_vec())),
            SortBy::CreateTime => CursorKey::CreateTime(Timestamp::from_micros(number(key)?)),
            SortBy::Revision => {
                let (revision, index) = key.split_at_checked(8)?;
                let revision = Revision::parse(number(revision)?).ok()?;
                CursorKey::Change(revision, i32::from_be_bytes(index.try_into().ok()?))
            }
        };
        Some(Self {
            key,
            id: Uuid::from_slice(id).ok()?,
            within: None,
        })
    }
}
