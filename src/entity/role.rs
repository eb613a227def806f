//! Roles.

use sea_orm::entity::prelude::*;

use crate::domain::{
    Description, Name, RoleId, SearchText, SortKey, Timestamp, UniqueKey, Version,
};

/// A row of `roles`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "roles")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RoleId,
    pub name: Name,
    pub name_key: UniqueKey,
    pub name_sort: SortKey,
    pub search_text: SearchText,
    pub description: Description,
    pub group_count: i64,
    /// At most 1000, as its CHECK enforces.
    pub rule_count: i64,
    pub version: Version,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
