//! Who is in which group.

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect,
    sea_query::{Expr, ExprTrait, OnConflict, Query},
};

use super::{Write, group::lock};
use crate::{
    domain::{AssignUsers, GroupId, UnassignUsers, UserId},
    entity::{group, group_user, user},
    error::{Error, Missing, Result},
};

impl Write for AssignUsers {
    /// How many users were not in the group before.
    type Output = u64;

    async fn apply(&self, tx: &DatabaseTransaction) -> Result<u64> {
        lock(tx, self.group_id).await?;
        let assigned = insert(tx, self.group_id, &self.user_ids).await?;
        if assigned < self.user_ids.len() as u64 {
            // Those passed over were there already, or they don't exist.
            must_exist(tx, &self.user_ids).await?;
        }
        let by = i64::try_from(assigned).unwrap_or(i64::MAX);
        count(tx, self.group_id, by).await?;
        Ok(assigned)
    }
}

impl Write for UnassignUsers {
    /// How many users were in the group before.
    type Output = u64;

    async fn apply(&self, tx: &DatabaseTransaction) -> Result<u64> {
        lock(tx, self.group_id).await?;
        let unassigned = group_user::Entity::delete_many()
            .filter(group_user::Column::GroupId.eq(self.group_id))
            .filter(group_user::Column::UserId.is_in(self.user_ids.iter().copied()))
            .exec(tx)
            .await?
            .rows_affected;
        if unassigned == 0 && !self.allow_missing {
            let users = self.user_ids.clone();
            return Err(Error::NotFound(Missing::UsersInGroup(self.group_id, users)));
        }
        let by = i64::try_from(unassigned).unwrap_or(i64::MAX);
        count(tx, self.group_id, -by).await?;
        Ok(unassigned)
    }
}

/// Inserts the associations of those users who exist and are not in the group yet.
async fn insert(tx: &DatabaseTransaction, group_id: GroupId, ids: &[UserId]) -> Result<u64> {
    let users = Query::select()
        .expr(Expr::val(group_id))
        .column(user::Column::Id)
        .from(user::Entity)
        .and_where(user::Column::Id.is_in(ids.iter().copied()))
        .to_owned();
    let mut insert = Query::insert();
    insert
        .into_table(group_user::Entity)
        .columns([group_user::Column::GroupId, group_user::Column::UserId])
        .select_from(users)
        .map_err(|error| Error::Internal(error.into()))?
        .on_conflict(OnConflict::new().do_nothing().to_owned());
    Ok(tx.execute(&insert).await?.rows_affected())
}

async fn must_exist(tx: &DatabaseTransaction, ids: &[UserId]) -> Result<()> {
    let there: Vec<UserId> = user::Entity::find()
        .select_only()
        .column(user::Column::Id)
        .filter(user::Column::Id.is_in(ids.iter().copied()))
        .into_tuple()
        .all(tx)
        .await?;
    let there: std::collections::HashSet<_> = there.into_iter().collect();
    let absent: Vec<_> = ids
        .iter()
        .filter(|id| !there.contains(id))
        .copied()
        .collect();
    if absent.is_empty() {
        Ok(())
    } else {
        Err(Error::NotFound(Missing::Users(absent)))
    }
}

async fn count(tx: &DatabaseTransaction, group_id: GroupId, by: i64) -> Result<()> {
    if by != 0 {
        group::Entity::update_many()
            .col_expr(
                group::Column::UserCount,
                Expr::col(group::Column::UserCount).add(by),
            )
            .filter(group::Column::Id.eq(group_id))
            .exec(tx)
            .await?;
    }
    Ok(())
}
