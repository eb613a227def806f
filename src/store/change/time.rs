//! Between which revisions the changes of some time are.
//!
//! Times follow the revisions, but for clocks that are put back or differ between instances: by how much at most
//! stands in the directory. So two looks at the index of times bound a range of revisions, and no change of that
//! time is outside.

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
pub(super) struct Between {
    /// The first that may be meant.
    pub(super) first: Revision,
    /// The first behind those that may be meant; none if there is no end.
    pub(super) end: Option<Revision>,
}

/// The revisions between which every change is that the filter's times allow.
pub(super) async fn revisions(
    db: &impl ConnectionTrait,
    directory: &directory::Model,
    filter: &ChangeFilter,
) -> Result<Between> {
    use change::Column::Time;
    let skew = directory.clock_skew;
    let mut between = Between {
        first: Revision::NONE,
        end: None,
    };
    if let Some(start) = filter.start {
        // Up to this one the latest time was before the start.
        let before = Time.lt(start.micros().saturating_sub(skew));
        let last = nearest(db, before, Order::Desc).await?;
        between.first = last.map_or(Revision::NONE, Revision::next);
    }
    if let Some(end) = filter.end {
        // From this one on no time is before the end.
        let behind = Time.gte(end.micros().saturating_add(skew));
        between.end = nearest(db, behind, Order::Asc).await?;
    }
    Ok(between)
}

/// The revision of the change that is first by its time among those for which this holds.
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
