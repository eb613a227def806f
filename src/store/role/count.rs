//! Which groups have a role, and how many: the number stands in the role's own row.

use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QueryTrait,
    sea_query::SubQueryStatement,
};

use crate::{
    domain::{GroupId, RoleId},
    entity::{group, group_role, role},
    error::{Error, Missing, Result},
};

/// These roles.
///
/// # Errors
/// Names every role that isn't there.
pub(in crate::store) async fn existing(
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
        Err(Error::NotFound(Missing::Roles(absent)))
    }
}

/// Gives roles to a group. They count their groups apart from that.
pub(in crate::store) fn give(group: &group::Model, roles: &[role::Model]) -> SubQueryStatement {
    let rows = roles.iter().map(|role| group_role::ActiveModel {
        group_id: Set(group.id),
        role_id: Set(role.id),
        title_sort: Set(group.title_sort.clone()),
        group_created_at: Set(group.created_at),
    });
    let insert = group_role::Entity::insert_many(rows);
    QueryTrait::into_query(insert).into()
}

/// Takes roles from a group. They count their groups apart from that.
pub(in crate::store) fn take(group: GroupId, roles: &[RoleId]) -> SubQueryStatement {
    let delete = group_role::Entity::delete_many()
        .filter(group_role::Column::GroupId.eq(group))
        .filter(group_role::Column::RoleId.is_in(roles.iter().copied()));
    delete.into_query().into()
}
