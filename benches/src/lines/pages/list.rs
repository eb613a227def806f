//! A list, and how to get to its end.

use std::{pin::Pin, rc::Rc};

use group_service::domain::{Cursor, CursorKey, Name, PageToken, Revision, Scope, Timestamp};
use uuid::Uuid;

/// The part of a list that is asked for.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) rows: usize,
    pub(super) token: String,
    pub(super) order: String,
}

/// What is looked at of a page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) rows: usize,
    pub(super) next: String,
    pub(super) last: Option<Place>,
}

/// A row's place in all orders of its list.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) created: i64,
    pub(super) change: (i64, i32),
}

pub(super) type Fetch = Rc<dyn Fn(Ask) -> Pin<Box<dyn Future<Output = Page>>>>;
pub(super) type Scoped = Rc<dyn Fn(Ask) -> Scope>;

/// A list in one order.
pub(super) struct List {
    pub(super) name: String,
    pub(super) fetch: Fetch,
    pub(super) order: String,
    /// The reverse order, and what page tokens are bound to, where there is more than one order.
    pub(super) reverse: Option<(String, Scoped)>,
}

impl List {
    /// A page of so many rows behind a token.
    pub(super) async fn page(&self, rows: usize, token: &str) -> Page {
        let (token, order) = (token.to_owned(), self.order.clone());
        (self.fetch)(Ask { rows, token, order }).await
    }

    /// The token of a last page of so many rows, made from where the first page of the reverse order ends.
    pub(super) async fn last(&self, rows: usize) -> Option<String> {
        let (reverse, scope) = self.reverse.as_ref()?;
        let ask = |rows, order: &str| Ask {
            rows,
            token: String::new(),
            order: order.to_owned(),
        };
        let before = (self.fetch)(ask(rows + 1, reverse)).await;
        let cursor = before.last.expect("more than a page").cursor(&self.order);
        Some(PageToken::encode(&cursor, &scope(ask(rows, &self.order))))
    }
}

impl Place {
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
