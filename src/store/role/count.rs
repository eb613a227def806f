//! Which groups have a role, and how many: the number stands in the role's own row.

use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait},
};

use crate::{
    domain::RoleId,
    entity::{group, role},
    error::{Error, Missing, Result},
    store::engine::give_roles,
};

/// Gives these roles to a group, counts one group more for each, and in all if it is new, and answers with them.
///
/// # Errors
/// Names every role that isn't there.
pub(in crate::store) async fn add_group(
    tx: &DatabaseTransaction,
    group: &group::Model,
    ids: &[RoleId],
    is_new: bool,
) -> Result<Vec<role::Model>> {
    let roles = give_roles(tx, group, ids, is_new).await?;
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

/// Counts one group less for each of these roles.
pub(in crate::store) async fn remove_group(
    tx: &DatabaseTransaction,
    ids: impl Iterator<Item = RoleId>,
) -> Result<()> {
    role::Entity::update_many()
        .col_expr(
            role::Column::GroupCount,
            Expr::col(role::Column::GroupCount).sub(1),
        )
        .filter(role::Column::Id.is_in(ids))
        .exec(tx)
        .await?;
    Ok(())
}
