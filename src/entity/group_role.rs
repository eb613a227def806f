//! Which roles a group has.

use sea_orm::entity::prelude::*;

use crate::domain::{GroupId, RoleId, SortKey, Timestamp};

/// A row of `group_roles`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "group_roles")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub group_id: GroupId,
    #[sea_orm(primary_key, auto_increment = false)]
    pub role_id: RoleId,
    /// The sort key of the group's title, copied from the group's row: a role's groups are sorted by it.
    pub title_sort: SortKey,
    pub group_created_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(
        belongs_to = "super::group::Entity",
        from = "Column::GroupId",
        to = "super::group::Column::Id"
    )]
    Group,
    #[sea_orm(
        belongs_to = "super::role::Entity",
        from = "Column::RoleId",
        to = "super::role::Column::Id"
    )]
    Role,
    /// The users in the same group.
    #[sea_orm(
        belongs_to = "super::group_user::Entity",
        from = "Column::GroupId",
        to = "super::group_user::Column::GroupId"
    )]
    GroupUser,
}

impl Related<super::role::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Role.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
