//! The directory as a whole: one row.

use sea_orm::entity::prelude::*;

use crate::domain::{HistoryId, Revision, Timestamp};

/// The row of `directory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "directory")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i32,
    pub history_id: HistoryId,
    /// The latest revision.
    pub revision: Revision,
    /// The oldest revision whose changes are kept; one more than the latest if none are.
    pub oldest_revision: Revision,
    /// How many groups there are.
    pub group_count: i64,
    /// The latest time of any write.
    pub latest_time: Timestamp,
    /// By how many microseconds, at most, a write's time was before that of an earlier one.
    pub clock_skew: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
