//! Writing users.

use std::cmp::max;

use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, DatabaseTransaction, EntityTrait, IntoActiveModel, JoinType, QueryFilter,
    QueryOrder, QuerySelect, RelationTrait,
    sea_query::{Expr, ExprTrait},
};

use super::missing;
use crate::{
    domain::{
        Change, ChangeKind, ChangeLog, CreateUser, DeleteUser, Deleted, DeletedDetails, Folded,
        GroupId, Name, UpdateUser, UserId, UserStatus, Value, Version, Words,
    },
    entity::{group, group_user, user},
    error::{Error, Result},
    store::{
        Write,
        row::{insert, update},
    },
};

impl Write for CreateUser {
    type Output = user::Model;

    async fn apply(
        &self,
        tx: &DatabaseTransaction,
        changes: &mut ChangeLog,
    ) -> Result<user::Model> {
        let now = changes.time();
        let mut row = user::ActiveModel {
            id: Set(UserId::generate()),
            status: Set(UserStatus::Active),
            version: Set(Version::FIRST),
            created_at: Set(now),
            updated_at: Set(now),
            ..Default::default()
        };
        rename(&mut row, &self.username, &self.first_name, &self.last_name);
        let user = insert(tx, row).await?;

        let of_user = |kind| Change::of_user(kind, user.id, &user.username);
        changes.push(of_user(ChangeKind::UserCreated).to(Value::Name(user.username.clone())));
        let names = names(&user);
        if names != Value::PersonName(Words::default(), Words::default()) {
            changes.push(of_user(ChangeKind::UserNamed).to(names));
        }
        Ok(user)
    }
}

impl Write for UpdateUser {
    type Output = user::Model;

    async fn apply(
        &self,
        tx: &DatabaseTransaction,
        changes: &mut ChangeLog,
    ) -> Result<user::Model> {
        let before = find(tx, self.id).await?.ok_or_else(|| missing(self.id))?;
        if !before.version.satisfies(self.etag.as_ref()) {
            return Err(Error::EtagMismatch);
        }
        let username = self.username.as_ref().unwrap_or(&before.username);
        let first_name = self.first_name.as_ref().unwrap_or(&before.first_name);
        let last_name = self.last_name.as_ref().unwrap_or(&before.last_name);
        let status = self.status.unwrap_or(before.status);
        let now = (
            &before.username,
            &before.first_name,
            &before.last_name,
            before.status,
        );
        if now == (username, first_name, last_name, status) {
            return Ok(before);
        }
        changes.not_before(max(before.created_at, before.updated_at));
        let mut row = before.clone().into_active_model();
        rename(&mut row, username, first_name, last_name);
        row.status = Set(status);
        row.version = Set(before.version.next());
        row.updated_at = Set(changes.time());
        let after = update(tx, row, user::Column::Id.eq(before.id)).await?;
        if after.username_sort != before.username_sort {
            resort(tx, &after).await?;
        }

        let of_user = |kind| Change::of_user(kind, after.id, &after.username);
        if before.username != after.username {
            let (from, to) = (before.username.clone(), after.username.clone());
            let renamed = of_user(ChangeKind::UserRenamed);
            changes.push(renamed.from(Value::Name(from)).to(Value::Name(to)));
        }
        if names(&before) != names(&after) {
            let named = of_user(ChangeKind::UserNamed);
            changes.push(named.from(names(&before)).to(names(&after)));
        }
        if before.status != after.status {
            changes.push(of_user(match after.status {
                UserStatus::Active => ChangeKind::UserUnblocked,
                UserStatus::Blocked => ChangeKind::UserBlocked,
            }));
        }
        Ok(after)
    }
}

impl Write for DeleteUser {
    type Output = ();

    async fn apply(&self, tx: &DatabaseTransaction, changes: &mut ChangeLog) -> Result<()> {
        let Some(user) = find(tx, self.id).await? else {
            return if self.allow_missing {
                Ok(())
            } else {
                Err(missing(self.id))
            };
        };
        if !user.version.satisfies(self.etag.as_ref()) {
            return Err(Error::EtagMismatch);
        }
        changes.not_before(max(user.created_at, user.updated_at));
        let groups = groups_of(tx, user.id).await?;
        group::Entity::update_many()
            .col_expr(
                group::Column::UserCount,
                Expr::col(group::Column::UserCount).sub(1),
            )
            .filter(group::Column::Id.in_subquery(super::super::group::groups_of(user.id)))
            .exec(tx)
            .await?;
        // The associations go with the user: ON DELETE CASCADE.
        user::Entity::delete_by_id(user.id).exec(tx).await?;

        changes.extend(groups.iter().map(|(id, title)| {
            let unassigned = Change::of_group(ChangeKind::UserUnassigned, *id, title);
            unassigned.with_user(user.id, &user.username)
        }));
        let deleted = Change::of_user(ChangeKind::UserDeleted, user.id, &user.username);
        let deleted = deleted.with_deleted(Deleted {
            created_at: user.created_at,
            updated_at: user.updated_at,
            version: user.version,
            details: DeletedDetails::User {
                first_name: user.first_name,
                last_name: user.last_name,
                status: user.status,
            },
        });
        changes.push(deleted.from(Value::Name(user.username)));
        Ok(())
    }
}

async fn find(tx: &DatabaseTransaction, id: UserId) -> Result<Option<user::Model>> {
    Ok(user::Entity::find_by_id(id).one(tx).await?)
}

/// Writes the user's sort key beside the groups that the user is in.
async fn resort(tx: &DatabaseTransaction, user: &user::Model) -> Result<()> {
    group_user::Entity::update_many()
        .col_expr(
            group_user::Column::UsernameSort,
            Expr::val(user.username_sort.clone()),
        )
        .filter(group_user::Column::UserId.eq(user.id))
        .exec(tx)
        .await?;
    Ok(())
}

async fn groups_of(tx: &DatabaseTransaction, id: UserId) -> Result<Vec<(GroupId, Name)>> {
    let groups = group::Entity::find()
        .select_only()
        .columns([group::Column::Id, group::Column::Title])
        .join_rev(JoinType::InnerJoin, group_user::Relation::Group.def())
        .filter(group_user::Column::UserId.eq(id))
        .order_by_asc(group::Column::Id)
        .into_tuple()
        .all(tx)
        .await?;
    Ok(groups)
}

fn names(user: &user::Model) -> Value {
    Value::PersonName(user.first_name.clone(), user.last_name.clone())
}

fn rename(row: &mut user::ActiveModel, username: &Name, first_name: &Words, last_name: &Words) {
    row.username = Set(username.clone());
    row.username_key = Set(username.unique_key());
    row.username_sort = Set(username.sort_key());
    row.search_text = Set(Folded::user(username, first_name, last_name));
    row.first_name = Set(first_name.clone());
    row.last_name = Set(last_name.clone());
}
