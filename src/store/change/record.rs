//! Recording changes.

use sea_orm::{DatabaseTransaction, EntityTrait, QueryTrait, sea_query::Expr};

use super::row;
use crate::{
    domain::{Change, Revision, Timestamp},
    entity::{change, directory},
    error::Result,
    store::{RequestContext, engine::execute_all},
};

/// Maximum number of rows of one INSERT. A row has 15 values, and SQLite allows 32,766 in a statement; a row has 12 KB
/// at most, and MariaDB allows 16 MB.
const ROWS_PER_INSERT: usize = 1000;

/// The rows of a revision's changes.
pub(in crate::store) fn to_rows(
    changes: Vec<Change>,
    revision: Revision,
    context: &RequestContext,
    now: Timestamp,
) -> Vec<change::ActiveModel> {
    let rows = changes.into_iter().zip(0..);
    rows.map(|(change, index)| row::encode(change, revision, index, context, now))
        .collect()
}

/// Inserts changes, and sets the directory's revision to `last` if another one was allocated than was needed.
pub(in crate::store) async fn insert_changes(
    tx: &DatabaseTransaction,
    rows: Vec<change::ActiveModel>,
    last: Option<Revision>,
) -> Result<()> {
    let mut rows = rows.into_iter().peekable();
    let mut writes = Vec::new();
    while rows.peek().is_some() {
        if !writes.is_empty() {
            execute_all(tx, std::mem::take(&mut writes)).await?;
        }
        let insert = change::Entity::insert_many(rows.by_ref().take(ROWS_PER_INSERT));
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
    execute_all(tx, writes).await
}
