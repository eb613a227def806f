//! Users.

use sea_orm::entity::prelude::*;

use crate::domain::{
    Name, PersonName, SearchText, SortKey, Timestamp, UniqueKey, UserId, UserStatus, Version,
};

/// A row of `users`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "users")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: UserId,
    pub username: Name,
    pub username_key: UniqueKey,
    pub username_sort: SortKey,
    pub search_text: SearchText,
    pub first_name: PersonName,
    pub last_name: PersonName,
    pub status: UserStatus,
    pub version: Version,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
