//! Groups and their roles.

mod list;
mod read;
mod write;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, PaginatorTrait, QueryFilter,
    QuerySelect, QueryTrait, sea_query::SelectStatement,
};

use crate::{
    domain::{GroupId, Name, RoleRef, Timestamp, UserId, Version},
    entity::{group, group_user, role},
    error::{Error, MissingResource, Result},
};

/// A group with its roles, as its edit page shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The id.
    pub id: GroupId,
    /// The title.
    pub title: Name,
    /// All roles, sorted by name.
    pub roles: Vec<RoleRef>,
    /// The number of users in the group.
    pub user_count: i64,
    /// The version of title and roles.
    pub version: Version,
    /// When the group was created.
    pub created_at: Timestamp,
    /// When title or roles last changed.
    pub updated_at: Timestamp,
}

impl Group {
    fn new(row: group::Model, roles: Vec<RoleRef>) -> Self {
        Self {
            id: row.id,
            title: row.title,
            roles,
            user_count: row.user_count,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

/// Fails with `NotFound` if the group doesn't exist.
pub(super) async fn must_exist(db: &impl ConnectionTrait, id: GroupId) -> Result<()> {
    match group::Entity::find_by_id(id).count(db).await? {
        0 => Err(missing(id)),
        _ => Ok(()),
    }
}

/// The number of users in the group, from its counter column.
pub(super) async fn user_count(db: &impl ConnectionTrait, id: GroupId) -> Result<u64> {
    let count: Option<i64> = group::Entity::find_by_id(id)
        .select_only()
        .column(group::Column::UserCount)
        .into_tuple()
        .one(db)
        .await?;
    count.map(unsigned).ok_or_else(|| missing(id))
}

/// Selects the ids of a user's groups.
pub(super) fn groups_of(id: UserId) -> SelectStatement {
    group_user::Entity::find()
        .select_only()
        .column(group_user::Column::GroupId)
        .filter(group_user::Column::UserId.eq(id))
        .into_query()
}

async fn find(tx: &DatabaseTransaction, id: GroupId) -> Result<Option<group::Model>> {
    Ok(group::Entity::find_by_id(id).one(tx).await?)
}

fn role_refs(mut roles: Vec<role::Model>) -> Vec<RoleRef> {
    roles.sort_unstable_by(|a, b| (&a.name_sort, a.id).cmp(&(&b.name_sort, b.id)));
    roles
        .into_iter()
        .map(|role| RoleRef {
            id: role.id,
            name: role.name,
        })
        .collect()
}

fn unsigned(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

fn missing(id: GroupId) -> Error {
    Error::NotFound(MissingResource::Group(id))
}
