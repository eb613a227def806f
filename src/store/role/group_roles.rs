//! Assignments of roles to groups. Each role's row holds the number of its groups.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryTrait,
    sea_query::SubQueryStatement,
};

use crate::{
    domain::{GroupId, RoleId},
    entity::{group, group_role, role},
    error::{Error, MissingResource, Result},
};

/// Reads these roles.
///
/// # Errors
/// `NotFound` with every role that doesn't exist.
pub(in crate::store) async fn require_roles(
    tx: &DatabaseTransaction,
    ids: &[RoleId],
) -> Result<Vec<role::Model>> {
    let wanted = role::Column::Id.is_in(ids.iter().copied());
    let roles = role::Entity::find().filter(wanted).all(tx).await?;
    let absent: Vec<_> = ids
        .iter()
        .filter(|id| roles.iter().all(|role| role.id != **id))
        .copied()
        .collect();
    if absent.is_empty() {
        Ok(roles)
    } else {
        Err(Error::NotFound(MissingResource::Roles(absent)))
    }
}

/// Assigns roles to a group. The roles' `group_count` is updated separately.
pub(in crate::store) fn insert_group_roles(
    group: &group::Model,
    roles: &[role::Model],
) -> SubQueryStatement {
    let rows = roles.iter().map(|role| group_role::ActiveModel {
        group_id: Set(group.id),
        role_id: Set(role.id),
        title_sort: Set(group.title_sort.clone()),
        group_created_at: Set(group.created_at),
    });
    let insert = group_role::Entity::insert_many(rows);
    QueryTrait::into_query(insert).into()
}

/// Removes roles from a group. The roles' `group_count` is updated separately.
pub(in crate::store) fn delete_group_roles(group: GroupId, roles: &[RoleId]) -> SubQueryStatement {
    let delete = group_role::Entity::delete_many()
        .filter(group_role::Column::GroupId.eq(group))
        .filter(group_role::Column::RoleId.is_in(roles.iter().copied()));
    delete.into_query().into()
}
