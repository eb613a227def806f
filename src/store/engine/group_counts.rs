//! Counters of groups: in the directory, and for each role.

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, DbBackend, EntityTrait, QueryFilter,
    QueryTrait,
    sea_query::{Expr, ExprTrait, SubQueryStatement},
};

use super::{execute_all, mysql};
use crate::{
    domain::RoleId,
    entity::{directory, role},
    error::Result,
};

/// Executes `writes`, and counts a new group in the directory and in its roles.
pub(in crate::store) async fn insert_group_and_count(
    tx: &DatabaseTransaction,
    mut writes: Vec<SubQueryStatement>,
    roles: impl Iterator<Item = RoleId>,
) -> Result<()> {
    if tx.get_database_backend() == DbBackend::MySql {
        execute_all(tx, writes).await?;
        return mysql::increment_group_counts(tx, roles.collect()).await;
    }
    writes.extend([add_to_role_group_counts(roles, 1), add_to_group_count(1)]);
    execute_all(tx, writes).await
}

/// A statement that adds `more` to the group count of each of these roles.
pub(in crate::store) fn add_to_role_group_counts(
    ids: impl Iterator<Item = RoleId>,
    more: i64,
) -> SubQueryStatement {
    use role::Column as C;
    let update = role::Entity::update_many()
        .col_expr(C::GroupCount, Expr::col(C::GroupCount).add(more))
        .filter(C::Id.is_in(ids));
    update.into_query().into()
}

/// A statement that adds `more` to the group count of the directory.
pub(in crate::store) fn add_to_group_count(more: i64) -> SubQueryStatement {
    use directory::Column as C;
    let update = directory::Entity::update_many()
        .col_expr(C::GroupCount, Expr::col(C::GroupCount).add(more));
    update.into_query().into()
}
