//! Keyset pagination of any query.

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
    /// The rows, each with the cursor after it.
    pub rows: Vec<(T, Cursor)>,
    /// Whether the list continues after the last row.
    pub more: bool,
    /// The revision that the page reflects.
    pub revision: Revision,
    /// Number of matching rows on all pages, if requested.
    pub total_size: Option<u64>,
}

impl<T> Page<T> {
    /// Converts the rows of the page.
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

/// A value as of a revision.
#[derive(Clone, Debug)]
pub struct AtRevision<T> {
    /// The value.
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
    /// Restricts `select` to the page and one more row, which shows whether the list continues.
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
            Some(cursor) => select.filter(after_cursor(key, self.id, cursor, descending)),
            None => select,
        };
        select
            .order_by(key, direction.clone())
            .order_by(self.id, direction)
            .limit(u64::from(page.size) + 1)
    }
}

/// Selects rows whose `(key, id)` is after the cursor, in a form that every engine turns into an index range. The
/// cursor's own row is included if its nested list continues.
pub(super) fn after_cursor<C: ColumnTrait>(
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

/// Truncates a page before the total weight of its rows exceeds `most`; at least one row remains.
pub(super) fn truncate_by_weight<M>(page: &mut Page<M>, most: i64, count: impl Fn(&M) -> i64) {
    let mut counted = 0;
    let fit = page.rows.iter().take_while(|(row, _)| {
        counted += count(row);
        counted <= most
    });
    let fit = fit.count().max(1);
    page.more |= page.rows.len() > fit;
    page.rows.truncate(fit);
}

/// Builds a page from rows, removing the one beyond the page.
pub(super) fn paginate<M>(
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

/// The current revision as a column, so that it is read in the same statement as the rows.
pub(super) fn revision_column() -> Expr {
    let revision = Query::select()
        .column(directory::Column::Revision)
        .from(directory::Entity)
        .to_owned();
    Expr::SubQuery(None, Box::new(revision.into()))
}
