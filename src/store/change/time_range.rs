//! The range of revisions that contains all changes of a time range.
//!
//! Times are in the order of revisions, unless clocks are set back or differ between instances; the directory has the
//! maximum deviation (`clock_skew`). So two lookups in the index of times bound a range of revisions, outside of which
//! there is no change of that time range.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, Order, QueryFilter, QueryOrder, QuerySelect,
    sea_query::Expr,
};

use crate::{
    domain::{ChangeFilter, Revision},
    entity::{change, directory},
    error::Result,
};

/// A range of revisions.
pub(super) struct RevisionRange {
    /// The first revision of the range.
    pub(super) first: Revision,
    /// The first revision after the range; `None` if the range has no end.
    pub(super) end: Option<Revision>,
}

/// The range of revisions that contains every change within the filter's times.
pub(super) async fn revision_range(
    db: &impl ConnectionTrait,
    directory: &directory::Model,
    filter: &ChangeFilter,
) -> Result<RevisionRange> {
    use change::Column::Time;
    let skew = directory.clock_skew;
    let mut range = RevisionRange {
        first: Revision::NONE,
        end: None,
    };
    if let Some(start) = filter.start {
        // Up to this revision every change is before `start`: its time is at most `skew` after this one's.
        let before = Time.lt(start.micros().saturating_sub(skew));
        let last = nearest(db, before, Order::Desc).await?;
        range.first = last.map_or(Revision::NONE, Revision::next);
    }
    if let Some(end) = filter.end {
        // From this revision on no change is before `end`: its time is at most `skew` before this one's.
        let behind = Time.gte(end.micros().saturating_add(skew));
        range.end = nearest(db, behind, Order::Asc).await?;
    }
    Ok(range)
}

/// The revision of the first change, in this order of times, that meets the condition.
async fn nearest(
    db: &impl ConnectionTrait,
    wanted: Expr,
    order: Order,
) -> Result<Option<Revision>> {
    let revision = change::Entity::find()
        .select_only()
        .column(change::Column::Revision)
        .filter(wanted)
        .order_by(change::Column::Time, order)
        .limit(1)
        .into_tuple()
        .one(db)
        .await?;
    Ok(revision)
}
