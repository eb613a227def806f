//! Changes that need no longer be kept.

use std::time::Duration;

use sea_orm::{
    ColumnTrait, Condition, EntityTrait, QueryFilter, QueryOrder, QuerySelect, sea_query::Expr,
};

use super::{change, directory};
use crate::{
    domain::{Revision, Timestamp},
    error::Result,
    store::{Db, write::begin},
};

/// How many rows go in one transaction: a few milliseconds of the writer's time.
const STEP: u64 = 100;

/// Removes some changes that are older than `retention`; whether there may be more.
///
/// First the oldest revision that is kept moves on, so that nobody sees half of what goes; then the rows
/// before it go, a few at a time.
///
/// # Errors
/// The database is unavailable.
pub async fn expire(db: &Db, retention: Duration) -> Result<bool> {
    let age = i64::try_from(retention.as_micros()).unwrap_or(i64::MAX);
    let before = Timestamp::from_micros(Timestamp::now().micros().saturating_sub(age));
    let tx = begin(db).await?;
    let directory = super::directory(&tx).await?;
    let first_kept = change::Entity::find()
        .filter(change::Column::Time.gte(before))
        .order_by_asc(change::Column::Time)
        .order_by_asc(change::Column::Revision)
        .one(&tx)
        .await?;
    let first_kept = first_kept.map_or(directory.revision.next(), |row| row.revision);
    let oldest = std::cmp::max(first_kept, directory.oldest_revision);
    if oldest > directory.oldest_revision {
        directory::Entity::update_many()
            .col_expr(directory::Column::OldestRevision, Expr::val(oldest))
            // Another instance may have moved it further meanwhile.
            .filter(directory::Column::OldestRevision.lt(oldest))
            .exec(&tx)
            .await?;
    }
    let gone: Vec<(Revision, i32)> = change::Entity::find()
        .select_only()
        .columns([change::Column::Revision, change::Column::Ordinal])
        .filter(change::Column::Revision.lt(oldest))
        .order_by_asc(change::Column::Revision)
        .order_by_asc(change::Column::Ordinal)
        .limit(STEP)
        .into_tuple()
        .all(&tx)
        .await?;
    if let Some((revision, index)) = gone.last() {
        let up_to = Condition::any()
            .add(change::Column::Revision.lt(*revision))
            .add(change::Column::Ordinal.lte(*index));
        change::Entity::delete_many()
            .filter(change::Column::Revision.lte(*revision))
            .filter(up_to)
            .exec(&tx)
            .await?;
    }
    db.statements.commit(tx).await?;
    Ok(gone.len() as u64 == STEP)
}
