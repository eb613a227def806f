//! The change log.

use sea_orm::entity::prelude::*;

use crate::domain::{
    Actor, GroupId, KindNumber, Name, RequestId, Revision, RoleId, Timestamp, UserId,
};

/// A row of `changes`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "changes")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub revision: Revision,
    #[sea_orm(primary_key, auto_increment = false)]
    pub ordinal: i32,
    pub kind: KindNumber,
    pub time: Timestamp,
    pub actor: Actor,
    pub request_id: Option<RequestId>,
    pub group_id: Option<GroupId>,
    pub group_title: Option<Name>,
    pub role_id: Option<RoleId>,
    pub role_name: Option<Name>,
    pub user_id: Option<UserId>,
    pub username: Option<Name>,
    /// The values before and after the change. Their encoding depends on the kind.
    pub before: Option<String>,
    pub after: Option<String>,
    /// The last state of a deleted resource.
    pub deleted: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
