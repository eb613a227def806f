//! How many groups have a role: written in the role's own row, where giving a role away and deleting it meet.

use sea_orm::{
    ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    sea_query::{Expr, ExprTrait},
};

use crate::{
    domain::RoleId,
    entity::role,
    error::{Error, Missing, Result},
};

/// Counts one group more for each of these roles, and answers with them.
///
/// # Errors
/// Names every role that isn't there.
pub(in crate::store) async fn add_group(
    tx: &DatabaseTransaction,
    ids: &[RoleId],
) -> Result<Vec<role::Model>> {
    let roles = role::Entity::update_many()
        .col_expr(
            role::Column::GroupCount,
            Expr::col(role::Column::GroupCount).add(1),
        )
        .filter(role::Column::Id.is_in(ids.iter().copied()))
        .exec_with_returning(tx)
        .await?;
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
