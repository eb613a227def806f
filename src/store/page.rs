//! Keyset pages on any query.

use sea_orm::{
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Select, Value,
    sea_query::{Expr, Query},
};

use crate::{
    domain::{Cursor, CursorKey, Order, PageRequest, Revision, SortBy},
    entity::directory,
};

/// A page of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// The rows, each with the place behind it.
    pub rows: Vec<(T, Cursor)>,
    /// Whether the list goes on behind the last row.
    pub more: bool,
    /// The revision that the page reflects.
    pub revision: Revision,
    /// How many rows match on all pages, where that was asked for.
    pub total_size: Option<u64>,
}

impl<T> Page<T> {
    /// The same page of other things.
    pub(crate) fn map<U>(self, mut f: impl FnMut(T) -> U) -> Page<U> {
        let rows = self.rows.into_iter().map(|(row, cursor)| (f(row), cursor));
        Page {
            rows: rows.collect(),
            more: self.more,
            revision: self.revision,
            total_size: self.total_size,
        }
    }
}

/// A thing as it was at a revision.
#[derive(Clone, Debug)]
pub struct At<T> {
    /// The thing.
    pub value: T,
    /// The revision that it reflects.
    pub revision: Revision,
}

/// The columns that a list may be sorted by.
pub(super) struct Keyset<C> {
    pub(super) name: C,
    pub(super) created_at: C,
    pub(super) id: C,
}

impl<C: ColumnTrait> Keyset<C> {
    /// Restricts `select` to the page, and to one row more, which tells whether the list goes on.
    pub(super) fn select<E: EntityTrait>(
        &self,
        select: Select<E>,
        page: &PageRequest,
    ) -> Select<E> {
        let Order { by, descending } = page.order;
        let key = match by {
            SortBy::Name => self.name,
            SortBy::CreateTime | SortBy::Revision => self.created_at,
        };
        let direction = if descending {
            sea_orm::Order::Desc
        } else {
            sea_orm::Order::Asc
        };
        let select = match &page.after {
            Some(cursor) => select.filter(behind(key, self.id, cursor, descending)),
            None => select,
        };
        select
            .order_by(key, direction.clone())
            .order_by(self.id, direction)
            .limit(u64::from(page.size) + 1)
    }
}

/// `(key, id)` behind the cursor, in words that every engine finds an index range for. The cursor's own row is
/// included if its nested list continues.
pub(super) fn behind<C: ColumnTrait>(
    key: C,
    id: C,
    cursor: &Cursor,
    descending: bool,
) -> Condition {
    let at: Value = match &cursor.key {
        CursorKey::Name(sort_key) => sort_key.clone().into(),
        CursorKey::CreateTime(time) => (*time).into(),
        CursorKey::Change(revision, _) => (*revision).into(),
    };
    let tie = if descending {
        Condition::any()
            .add(key.lt(at.clone()))
            .add(id.lt(cursor.id))
    } else {
        Condition::any()
            .add(key.gt(at.clone()))
            .add(if cursor.within.is_some() {
                id.gte(cursor.id)
            } else {
                id.gt(cursor.id)
            })
    };
    let from = if descending { key.lte(at) } else { key.gte(at) };
    Condition::all().add(from).add(tie)
}

/// Cuts a page off where its rows have more of something than that, which is read in one go. It has one row at least.
pub(super) fn cut_at<M>(page: &mut Page<M>, most: i64, count: impl Fn(&M) -> i64) {
    let mut counted = 0;
    let fit = page.rows.iter().take_while(|(row, _)| {
        counted += count(row);
        counted <= most
    });
    let fit = fit.count().max(1);
    page.more |= page.rows.len() > fit;
    page.rows.truncate(fit);
}

/// Cuts the row too many off.
pub(super) fn cut<M>(
    mut models: Vec<M>,
    page: &PageRequest,
    cursor: impl Fn(&M, SortBy) -> Cursor,
) -> Page<M> {
    let more = models.len() > usize::from(page.size);
    models.truncate(usize::from(page.size));
    let rows = models
        .into_iter()
        .map(|model| {
            let cursor = cursor(&model, page.order.by);
            (model, cursor)
        })
        .collect();
    Page {
        rows,
        more,
        revision: Revision::NONE,
        total_size: None,
    }
}

/// The present revision, as a column beside others: read in the same statement.
pub(super) fn revision() -> Expr {
    let revision = Query::select()
        .column(directory::Column::Revision)
        .from(directory::Entity)
        .to_owned();
    Expr::SubQuery(None, Box::new(revision.into()))
}
