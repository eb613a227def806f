//! A list, and how to find its last page.

use std::{pin::Pin, rc::Rc};

use group_service::domain::{Cursor, CursorKey, Name, PageToken, Revision, Scope, Timestamp};
use uuid::Uuid;

/// The parameters of a page request.
#[derive(Clone, Debug)]
pub(super) struct PageQuery {
    pub(super) rows: usize,
    pub(super) token: String,
    pub(super) order: String,
}

/// The relevant parts of a page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) rows: usize,
    pub(super) next: String,
    pub(super) last: Option<ListPosition>,
}

/// The sort keys of a row in all orders of its list.
#[derive(Debug)]
pub(super) struct ListPosition {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) created: i64,
    pub(super) change: (i64, i32),
}

pub(super) type Fetch = Rc<dyn Fn(PageQuery) -> Pin<Box<dyn Future<Output = Page>>>>;
pub(super) type ScopeOf = Rc<dyn Fn(PageQuery) -> Scope>;

/// A list in one order.
pub(super) struct List {
    pub(super) name: String,
    pub(super) fetch: Fetch,
    pub(super) order: String,
    /// The reverse order, and the scope of page tokens, if there is more than one order.
    pub(super) reverse: Option<(String, ScopeOf)>,
}

impl List {
    /// Requests a page of `rows` rows after a token.
    pub(super) async fn page(&self, rows: usize, token: &str) -> Page {
        let (token, order) = (token.to_owned(), self.order.clone());
        (self.fetch)(PageQuery { rows, token, order }).await
    }

    /// The token of a last page of `rows` rows, derived from the end of the first page of the reverse order.
    pub(super) async fn last(&self, rows: usize) -> Option<String> {
        let (reverse, scope) = self.reverse.as_ref()?;
        let ask = |rows, order: &str| PageQuery {
            rows,
            token: String::new(),
            order: order.to_owned(),
        };
        let before = (self.fetch)(ask(rows + 1, reverse)).await;
        let cursor = before.last.expect("more than a page").cursor(&self.order);
        Some(PageToken::encode(&cursor, &scope(ask(rows, &self.order))))
    }
}

impl ListPosition {
    fn cursor(self, order: &str) -> Cursor {
        let id = Uuid::parse_str(&self.id);
        let key = if order.starts_with("revision") {
            let (revision, index) = self.change;
            CursorKey::Change(Revision::parse(revision).expect("positive"), index)
        } else if order.starts_with("create_time") {
            CursorKey::CreateTime(Timestamp::from_micros(self.created))
        } else {
            CursorKey::Name(Name::parse(&self.name).expect("a name").sort_key())
        };
        Cursor {
            key,
            id: id.unwrap_or_default(),
            within: None,
        }
    }
}
