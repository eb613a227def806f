//! Expiry of old changes.

use std::{cmp::min, time::Duration};

use sea_orm::{
    ColumnTrait, Condition, DatabaseTransaction, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait},
};

use super::{change, directory};
use crate::{
    domain::{Revision, Timestamp},
    error::Result,
    store::{Db, write::begin},
};

/// How many rows one transaction deletes: a few milliseconds of the writer's time.
const BATCH_ROWS: u64 = 100;
/// How many revisions one transaction scans.
const SCAN_REVISIONS: i64 = 10_000;

/// Deletes a batch of changes that are older than `retention`; returns whether there may be more.
///
/// First the oldest kept revision advances, so that no reader sees partly deleted revisions; then the rows before it
/// are deleted, a batch at a time.
///
/// # Errors
/// The database is unavailable.
pub async fn expire(db: &Db, retention: Duration) -> Result<bool> {
    let before = db.clock.now().minus(retention);
    let tx = begin(db).await?;
    let directory = super::read_directory(&tx).await?;
    let (oldest, looked_at_all) = first_kept(&tx, &directory, before).await?;
    if oldest > directory.oldest_revision {
        directory::Entity::update_many()
            .col_expr(directory::Column::OldestRevision, Expr::val(oldest))
            // Another instance may have advanced it further meanwhile.
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
        .limit(BATCH_ROWS)
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
    Ok(gone.len() as u64 == BATCH_ROWS || !looked_at_all)
}

/// The first revision whose changes aren't older than `before`, or the end of the scan, and whether the scan got far
/// enough. Times may be out of the order of revisions: no revision expires that follows a younger one.
async fn first_kept(
    tx: &DatabaseTransaction,
    directory: &directory::Model,
    before: Timestamp,
) -> Result<(Revision, bool)> {
    use change::Column as C;
    let revisions = || change::Entity::find().select_only().column(C::Revision);
    // The young change with the earliest time. One with a later time may be of an earlier revision.
    let young: Option<Revision> = revisions()
        .filter(C::Time.gte(before))
        .order_by_asc(C::Time)
        .order_by_asc(C::Revision)
        .limit(1)
        .into_tuple()
        .one(tx)
        .await?;
    let end = young.unwrap_or(directory.revision.next());
    let far = min(directory.oldest_revision.plus(SCAN_REVISIONS), end);
    let first: Option<Revision> = revisions()
        .filter(C::Revision.gte(directory.oldest_revision))
        .filter(C::Revision.lt(far))
        // `+ 0` keeps the index of times from being used: the scan is in the order of revisions.
        .filter(Expr::col(C::Time).add(0).gte(before.micros()))
        .order_by_asc(C::Revision)
        .limit(1)
        .into_tuple()
        .one(tx)
        .await?;
    Ok((first.unwrap_or(far), first.is_some() || far == end))
}
