//! Assignment of users to groups.

use std::collections::BTreeMap;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, DatabaseTransaction, EntityTrait, FromQueryResult,
    QueryFilter, QueryTrait,
    sea_query::{Expr, ExprTrait, Query, SubQueryStatement},
};

use super::{Write, engine::execute_all};
use crate::{
    domain::{
        AssignUsers, Change, ChangeKind, ChangeLog, GroupId, Name, SortKey, Timestamp,
        UnassignUsers, UserId,
    },
    entity::{group, group_user, user},
    error::{Error, MissingResource, Result},
};

impl Write for AssignUsers {
    /// Number of users who were not in the group before.
    type Output = u64;

    async fn apply(&self, tx: &DatabaseTransaction, changes: &mut ChangeLog) -> Result<u64> {
        let GroupAndUsers { group, users } =
            find_group_and_users(tx, self.group_id, &self.user_ids).await?;
        let absent: Vec<_> = self
            .user_ids
            .iter()
            .filter(|id| !users.contains_key(id))
            .copied()
            .collect();
        if !absent.is_empty() {
            return Err(Error::NotFound(MissingResource::Users(absent)));
        }
        let new: Vec<_> = self
            .user_ids
            .iter()
            .filter_map(|id| users.get(id).map(|user| (*id, user)))
            .filter(|(_, user)| !user.is_member)
            .collect();
        if new.is_empty() {
            return Ok(0);
        }
        let rows = new.iter().map(|(id, user)| group_user::ActiveModel {
            group_id: Set(group.id),
            user_id: Set(*id),
            username_sort: Set(user.sort.clone()),
            title_sort: Set(group.sort.clone()),
            group_created_at: Set(group.created_at),
        });
        let insert = QueryTrait::into_query(group_user::Entity::insert_many(rows));
        let counted = adjust_user_count(group.id, signed(new.len()));
        execute_all(tx, vec![insert.into(), counted]).await?;
        changes.extend(new.iter().map(|(id, user)| {
            let assigned = Change::for_group(ChangeKind::UserAssigned, group.id, &group.title);
            assigned.with_user(*id, &user.name)
        }));
        Ok(new.len() as u64)
    }
}

impl Write for UnassignUsers {
    /// Number of users who were in the group before.
    type Output = u64;

    async fn apply(&self, tx: &DatabaseTransaction, changes: &mut ChangeLog) -> Result<u64> {
        let GroupAndUsers { group, mut users } =
            find_group_and_users(tx, self.group_id, &self.user_ids).await?;
        users.retain(|_, user| user.is_member);
        if users.is_empty() {
            return if self.allow_missing {
                Ok(0)
            } else {
                let users = self.user_ids.clone();
                Err(Error::NotFound(MissingResource::UsersInGroup(
                    group.id, users,
                )))
            };
        }
        let delete = group_user::Entity::delete_many()
            .filter(group_user::Column::GroupId.eq(group.id))
            .filter(group_user::Column::UserId.is_in(users.keys().copied()));
        let counted = adjust_user_count(group.id, -signed(users.len()));
        execute_all(tx, vec![delete.into_query().into(), counted]).await?;
        changes.extend(users.iter().map(|(id, user)| {
            let unassigned = Change::for_group(ChangeKind::UserUnassigned, group.id, &group.title);
            unassigned.with_user(*id, &user.name)
        }));
        Ok(users.len() as u64)
    }
}

/// A group, and the requested users that exist.
struct GroupAndUsers {
    group: Row,
    users: BTreeMap<UserId, UserMembership>,
}

struct UserMembership {
    name: Name,
    sort: SortKey,
    is_member: bool,
}

/// A group joined with one of the requested users, if any exists.
#[derive(FromQueryResult)]
struct Row {
    id: GroupId,
    title: Name,
    sort: SortKey,
    created_at: Timestamp,
    user_id: Option<UserId>,
    username: Option<Name>,
    username_sort: Option<SortKey>,
    member: Option<UserId>,
}

/// Reads the group, the requested users that exist, and whether each is a member, in one statement.
async fn find_group_and_users(
    tx: &DatabaseTransaction,
    group_id: GroupId,
    ids: &[UserId],
) -> Result<GroupAndUsers> {
    use group::Column as G;
    use group_user::Column as M;
    use user::Column as U;
    let users = U::Id.is_in(ids.iter().copied());
    let is_member = Condition::all()
        .add(M::GroupId.eq(group_id))
        .add(Expr::col((group_user::Entity, M::UserId)).equals((user::Entity, U::Id)));
    let select = Query::select()
        .columns([G::Id, G::Title, G::CreatedAt].map(|column| (group::Entity, column)))
        .expr_as(Expr::col((group::Entity, G::TitleSort)), "sort")
        .expr_as(Expr::col((user::Entity, U::Id)), "user_id")
        .columns([U::Username, U::UsernameSort].map(|column| (user::Entity, column)))
        .expr_as(Expr::col((group_user::Entity, M::UserId)), "member")
        .from(group::Entity)
        .left_join(user::Entity, users)
        .left_join(group_user::Entity, is_member)
        .and_where(G::Id.eq(group_id))
        .to_owned();
    let statement = tx.get_database_backend().build(&select);
    let rows = Row::find_by_statement(statement).all(tx).await?;
    let mut group = None;
    let mut users = BTreeMap::new();
    for mut row in rows {
        let user = (
            row.user_id.take(),
            row.username.take(),
            row.username_sort.take(),
        );
        if let (Some(id), Some(name), Some(sort)) = user {
            let is_member = row.member.is_some();
            users.insert(
                id,
                UserMembership {
                    name,
                    sort,
                    is_member,
                },
            );
        }
        group = Some(row);
    }
    let group = group.ok_or(Error::NotFound(MissingResource::Group(group_id)))?;
    Ok(GroupAndUsers { group, users })
}

fn adjust_user_count(group_id: GroupId, by: i64) -> SubQueryStatement {
    use group::Column as C;
    let update = group::Entity::update_many()
        .col_expr(C::UserCount, Expr::col(C::UserCount).add(by))
        .filter(C::Id.eq(group_id));
    update.into_query().into()
}

fn signed(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
