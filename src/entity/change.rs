//! What has changed, in order.

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
    /// What it was and what it is; which words they are depends on the kind.
    pub before: Option<String>,
    pub after: Option<String>,
    /// The last state of what was deleted.
    pub deleted: Option<String>,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
