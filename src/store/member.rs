//! Who is in which group.

use std::collections::BTreeMap;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, JoinType, QueryFilter,
    QuerySelect, RelationTrait,
    sea_query::{Expr, ExprTrait, Query},
};

use super::{Write, group};
use crate::{
    domain::{AssignUsers, Change, ChangeKind, GroupId, Name, UnassignUsers, UserId},
    entity::{self, group_user, user},
    error::{Error, Missing, Result},
};

impl Write for AssignUsers {
    /// How many users were not in the group before.
    type Output = u64;

    async fn apply(&self, tx: &DatabaseTransaction, changes: &mut Vec<Change>) -> Result<u64> {
        let group = group::of(tx, self.group_id).await?;
        let there = among(tx, group.id, &self.user_ids).await?;
        let new: Vec<_> = self
            .user_ids
            .iter()
            .filter(|id| !there.contains_key(id))
            .copied()
            .collect();
        if new.is_empty() {
            return Ok(0);
        }
        insert(tx, &group, &new).await?;
        // Who exists is in the group by now: whoever isn't, doesn't.
        let there = among(tx, group.id, &new).await?;
        let absent: Vec<_> = new
            .iter()
            .filter(|id| !there.contains_key(id))
            .copied()
            .collect();
        if !absent.is_empty() {
            return Err(Error::NotFound(Missing::Users(absent)));
        }
        count(tx, group.id, signed(new.len())).await?;
        changes.extend(new.iter().filter_map(|id| {
            let assigned = Change::of_group(ChangeKind::UserAssigned, group.id, &group.title);
            Some(assigned.with_user(*id, there.get(id)?))
        }));
        Ok(new.len() as u64)
    }
}

impl Write for UnassignUsers {
    /// How many users were in the group before.
    type Output = u64;

    async fn apply(&self, tx: &DatabaseTransaction, changes: &mut Vec<Change>) -> Result<u64> {
        let group = group::of(tx, self.group_id).await?;
        let there = among(tx, group.id, &self.user_ids).await?;
        if there.is_empty() {
            return if self.allow_missing {
                Ok(0)
            } else {
                let users = self.user_ids.clone();
                Err(Error::NotFound(Missing::UsersInGroup(group.id, users)))
            };
        }
        group_user::Entity::delete_many()
            .filter(group_user::Column::GroupId.eq(group.id))
            .filter(group_user::Column::UserId.is_in(there.keys().copied()))
            .exec(tx)
            .await?;
        count(tx, group.id, -signed(there.len())).await?;
        changes.extend(there.iter().map(|(id, username)| {
            let unassigned = Change::of_group(ChangeKind::UserUnassigned, group.id, &group.title);
            unassigned.with_user(*id, username)
        }));
        Ok(there.len() as u64)
    }
}

/// Those of these users who are in the group, with their usernames.
async fn among(
    tx: &DatabaseTransaction,
    group_id: GroupId,
    ids: &[UserId],
) -> Result<BTreeMap<UserId, Name>> {
    let rows: Vec<(UserId, Name)> = user::Entity::find()
        .select_only()
        .columns([user::Column::Id, user::Column::Username])
        .join_rev(JoinType::InnerJoin, group_user::Relation::User.def())
        .filter(group_user::Column::GroupId.eq(group_id))
        .filter(group_user::Column::UserId.is_in(ids.iter().copied()))
        .into_tuple()
        .all(tx)
        .await?;
    Ok(rows.into_iter().collect())
}

/// Inserts the associations of those users who exist.
async fn insert(
    tx: &DatabaseTransaction,
    group: &entity::group::Model,
    ids: &[UserId],
) -> Result<()> {
    use group_user::Column as C;
    let users = Query::select()
        .expr(Expr::val(group.id))
        .column(user::Column::Id)
        .column(user::Column::UsernameSort)
        .expr(Expr::val(group.title_sort.clone()))
        .expr(Expr::val(group.created_at))
        .from(user::Entity)
        .and_where(user::Column::Id.is_in(ids.iter().copied()))
        .to_owned();
    let mut insert = Query::insert();
    insert
        .into_table(group_user::Entity)
        .columns([
            C::GroupId,
            C::UserId,
            C::UsernameSort,
            C::TitleSort,
            C::GroupCreatedAt,
        ])
        .select_from(users)
        .map_err(|error| Error::Internal(error.into()))?;
    tx.execute(&insert).await?;
    Ok(())
}

async fn count(tx: &DatabaseTransaction, group_id: GroupId, by: i64) -> Result<()> {
    use entity::group::Column as C;
    entity::group::Entity::update_many()
        .col_expr(C::UserCount, Expr::col(C::UserCount).add(by))
        .filter(C::Id.eq(group_id))
        .exec(tx)
        .await?;
    Ok(())
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
