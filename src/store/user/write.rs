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
        Change, ChangeKind, ChangeLog, CreateUser, DeleteUser, DeletedResource,
        DeletedResourceDetails, GroupId, Name, PersonName, SearchText, UpdateUser, UserId,
        UserStatus, Value, Version,
    },
    entity::{group, group_user, user},
    error::{Error, Result},
    store::{
        Write,
        statements::{insert, update},
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
        set_names(&mut row, &self.username, &self.first_name, &self.last_name);
        let user = insert(tx, row).await?;

        let for_user = |kind| Change::for_user(kind, user.id, &user.username);
        changes
            .push(for_user(ChangeKind::UserCreated).with_after(Value::Name(user.username.clone())));
        let names = names(&user);
        if names != Value::PersonName(PersonName::default(), PersonName::default()) {
            changes.push(for_user(ChangeKind::UserNamed).with_after(names));
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
        changes.advance_to(max(before.created_at, before.updated_at));
        let mut row = before.clone().into_active_model();
        set_names(&mut row, username, first_name, last_name);
        row.status = Set(status);
        row.version = Set(before.version.next());
        row.updated_at = Set(changes.time());
        let after = update(tx, row, user::Column::Id.eq(before.id)).await?;
        if after.username_sort != before.username_sort {
            update_sort_keys(tx, &after).await?;
        }

        let for_user = |kind| Change::for_user(kind, after.id, &after.username);
        if before.username != after.username {
            let (from, to) = (before.username.clone(), after.username.clone());
            let renamed = for_user(ChangeKind::UserRenamed);
            changes.push(
                renamed
                    .with_before(Value::Name(from))
                    .with_after(Value::Name(to)),
            );
        }
        if names(&before) != names(&after) {
            let named = for_user(ChangeKind::UserNamed);
            changes.push(named.with_before(names(&before)).with_after(names(&after)));
        }
        if before.status != after.status {
            changes.push(for_user(match after.status {
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
        changes.advance_to(max(user.created_at, user.updated_at));
        let groups = groups_of(tx, user.id).await?;
        group::Entity::update_many()
            .col_expr(
                group::Column::UserCount,
                Expr::col(group::Column::UserCount).sub(1),
            )
            .filter(group::Column::Id.in_subquery(super::super::group::groups_of(user.id)))
            .exec(tx)
            .await?;
        // The group memberships are deleted with the user: ON DELETE CASCADE.
        user::Entity::delete_by_id(user.id).exec(tx).await?;

        changes.extend(groups.iter().map(|(id, title)| {
            let unassigned = Change::for_group(ChangeKind::UserUnassigned, *id, title);
            unassigned.with_user(user.id, &user.username)
        }));
        let deleted = Change::for_user(ChangeKind::UserDeleted, user.id, &user.username);
        let deleted = deleted.with_deleted(DeletedResource {
            created_at: user.created_at,
            updated_at: user.updated_at,
            version: user.version,
            details: DeletedResourceDetails::User {
                first_name: user.first_name,
                last_name: user.last_name,
                status: user.status,
            },
        });
        changes.push(deleted.with_before(Value::Name(user.username)));
        Ok(())
    }
}

async fn find(tx: &DatabaseTransaction, id: UserId) -> Result<Option<user::Model>> {
    Ok(user::Entity::find_by_id(id).one(tx).await?)
}

/// Updates the copies of the user's sort key in the user's group memberships.
async fn update_sort_keys(tx: &DatabaseTransaction, user: &user::Model) -> Result<()> {
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

fn set_names(
    row: &mut user::ActiveModel,
    username: &Name,
    first_name: &PersonName,
    last_name: &PersonName,
) {
    row.username = Set(username.clone());
    row.username_key = Set(username.unique_key());
    row.username_sort = Set(username.sort_key());
    row.search_text = Set(SearchText::user(username, first_name, last_name));
    row.first_name = Set(first_name.clone());
    row.last_name = Set(last_name.clone());
}
