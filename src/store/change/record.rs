//! Recording changes.

use sea_orm::{DatabaseTransaction, EntityTrait, QueryTrait, sea_query::Expr};

use super::row;
use crate::{
    domain::{Change, Revision, Timestamp},
    entity::{change, directory},
    error::Result,
    store::{Origin, engine::together},
};

/// Rows that one INSERT takes: 15 values each, and SQLite takes 32,766; 12 KB each at most, and MariaDB takes
/// 16 MB.
const ROWS: usize = 1000;

/// The changes of a revision, as they are recorded.
pub(in crate::store) fn rows(
    changes: Vec<Change>,
    revision: Revision,
    origin: &Origin,
    now: Timestamp,
) -> Vec<change::ActiveModel> {
    let rows = changes.into_iter().zip(0..);
    rows.map(|(change, index)| row::encode(change, revision, index, origin, now))
        .collect()
}

/// Records changes, and makes this the last revision if another one was taken than was needed.
pub(in crate::store) async fn record(
    tx: &DatabaseTransaction,
    rows: Vec<change::ActiveModel>,
    last: Option<Revision>,
) -> Result<()> {
    let mut rows = rows.into_iter().peekable();
    let mut writes = Vec::new();
    while rows.peek().is_some() {
        if !writes.is_empty() {
            together(tx, std::mem::take(&mut writes)).await?;
        }
        let insert = change::Entity::insert_many(rows.by_ref().take(ROWS));
        writes.push(QueryTrait::into_query(insert).into());
    }
    if let Some(last) = last {
        let update =
            directory::Entity::update_many().col_expr(directory::Column::Revision, Expr::val(last));
        writes.push(update.into_query().into());
    }
    if writes.is_empty() {
        return Ok(());
    }
    together(tx, writes).await
}
