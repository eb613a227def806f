//! How many groups there are, in the directory and with a role.

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter,
    QueryTrait,
    sea_query::{Expr, ExprTrait, SubQueryStatement},
};

use super::{mysql, together};
use crate::{
    domain::RoleId,
    entity::{directory, role},
    error::Result,
};

/// Carries these out, and counts a new group in the directory and in its roles.
pub(in crate::store) async fn add_new_group(
    tx: &DatabaseTransaction,
    mut writes: Vec<SubQueryStatement>,
    roles: impl Iterator<Item = RoleId>,
) -> Result<()> {
    if tx.get_database_backend() == DbBackend::MySql {
        together(tx, writes).await?;
        return mysql::count_new_group(tx, roles.collect()).await;
    }
    writes.extend([count_in_roles(roles, 1), count_groups(1)]);
    together(tx, writes).await
}

/// Counts so many groups more in each of these roles.
pub(in crate::store) fn count_in_roles(
    ids: impl Iterator<Item = RoleId>,
    more: i64,
) -> SubQueryStatement {
    use role::Column as C;
    let update = role::Entity::update_many()
        .col_expr(C::GroupCount, Expr::col(C::GroupCount).add(more))
        .filter(C::Id.is_in(ids));
    update.into_query().into()
}

/// Counts so many groups more in the directory.
pub(in crate::store) fn count_groups(more: i64) -> SubQueryStatement {
    use directory::Column as C;
    let update = directory::Entity::update_many()
        .col_expr(C::GroupCount, Expr::col(C::GroupCount).add(more));
    update.into_query().into()
}
