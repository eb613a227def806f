//! The rules of roles: what each allows and denies.

use sea_orm::entity::prelude::*;

use crate::domain::{Effect, Pattern, RoleId, Rule};

/// A row of `role_rules`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "role_rules")]
pub struct Model {
    /// The table's primary key is the whole row; rows are never looked up by it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub role_id: RoleId,
    pub bundle: Pattern,
    pub controller: Pattern,
    pub action: Pattern,
    pub effect: Effect,
}

impl From<Model> for Rule {
    fn from(row: Model) -> Self {
        Self {
            bundle: row.bundle,
            controller: row.controller,
            action: row.action,
            effect: row.effect,
        }
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(
        belongs_to = "super::role::Entity",
        from = "Column::RoleId",
        to = "super::role::Column::Id"
    )]
    Role,
}

impl ActiveModelBehavior for ActiveModel {}
