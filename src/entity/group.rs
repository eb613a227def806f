//! Groups.

use sea_orm::entity::prelude::*;

use crate::domain::{GroupId, Name, SearchText, SortKey, Timestamp, UniqueKey, Version};

/// A row of `groups`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "groups")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: GroupId,
    pub title: Name,
    pub title_key: UniqueKey,
    pub title_sort: SortKey,
    pub search_text: SearchText,
    /// At least 1: its CHECK keeps a group from losing its last role.
    pub role_count: i64,
    pub user_count: i64,
    pub version: Version,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
