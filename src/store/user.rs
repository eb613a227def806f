//! Users.

use sea_orm::{
    ActiveModelTrait,
    ActiveValue::Set,
    ActiveValue::Unchanged,
    ColumnTrait, DatabaseTransaction, EntityTrait, JoinType, PaginatorTrait, QueryFilter,
    QuerySelect, QueryTrait, RelationTrait,
    sea_query::{Expr, ExprTrait},
};

use super::{
    Db, Page, Write,
    page::{Keyset, contains, cut},
};
use crate::{
    domain::{
        CreateUser, Cursor, CursorKey, DeleteUser, Folded, ListUsers, ListUsersInGroup, Name,
        SortBy, Timestamp, UpdateUser, UserId, UserStatus, Version, Words,
    },
    entity::{group, group_user, user},
    error::{Error, Missing, Result},
};

const KEYSET: Keyset<user::Column> = Keyset {
    name: user::Column::UsernameSort,
    created_at: user::Column::CreatedAt,
    id: user::Column::Id,
};

/// Gets a user.
///
/// # Errors
/// Not found, or the database is unavailable.
pub async fn get(db: &Db, id: UserId) -> Result<user::Model> {
    let found = user::Entity::find_by_id(id).one(&db.reader).await?;
    found.ok_or_else(|| missing(id))
}

/// Lists users.
///
/// # Errors
/// The database is unavailable.
pub async fn list(db: &Db, list: &ListUsers) -> Result<Page<user::Model>> {
    let ListUsers {
        page,
        query,
        status,
    } = list;
    let mut select = user::Entity::find();
    if let Some(query) = query {
        select = select.filter(contains(user::Column::SearchText, query));
    }
    if let Some(status) = status {
        select = select.filter(user::Column::Status.eq(*status));
    }
    let models = KEYSET.select(select, page).all(&db.reader).await?;
    Ok(cut(models, page, cursor))
}

/// Lists the users in a group.
///
/// # Errors
/// The group isn't there, or the database is unavailable.
pub async fn list_in_group(db: &Db, list: &ListUsersInGroup) -> Result<Page<user::Model>> {
    let ListUsersInGroup {
        group_id,
        page,
        query,
        with_total_size,
    } = list;
    let mut select = user::Entity::find()
        .join_rev(JoinType::InnerJoin, group_user::Relation::User.def())
        .filter(group_user::Column::GroupId.eq(*group_id));
    if let Some(query) = query {
        select = select.filter(contains(user::Column::SearchText, query));
    }
    let snapshot = db.snapshot().await?;
    let total_size = if *with_total_size {
        Some(select.clone().count(&snapshot).await?)
    } else {
        None
    };
    let models = KEYSET.select(select, page).all(&snapshot).await?;
    if models.is_empty() {
        super::group::must_exist(&snapshot, *group_id).await?;
    }
    Ok(Page {
        total_size,
        ..cut(models, page, cursor)
    })
}

impl Write for CreateUser {
    type Output = user::Model;

    async fn apply(&self, tx: &DatabaseTransaction) -> Result<user::Model> {
        let now = Timestamp::now();
        let row = user::ActiveModel {
            id: Set(UserId::generate()),
            status: Set(UserStatus::Active),
            version: Set(Version::FIRST),
            created_at: Set(now),
            updated_at: Set(now),
            ..named(&self.username, &self.first_name, &self.last_name)
        };
        Ok(row.insert(tx).await?)
    }
}

impl Write for UpdateUser {
    type Output = user::Model;

    async fn apply(&self, tx: &DatabaseTransaction) -> Result<user::Model> {
        let user = lock(tx, self.id).await?.ok_or_else(|| missing(self.id))?;
        if !user.version.satisfies(self.etag.as_ref()) {
            return Err(Error::EtagMismatch);
        }
        let username = self.username.as_ref().unwrap_or(&user.username);
        let first_name = self.first_name.as_ref().unwrap_or(&user.first_name);
        let last_name = self.last_name.as_ref().unwrap_or(&user.last_name);
        let status = self.status.unwrap_or(user.status);
        let now = (
            &user.username,
            &user.first_name,
            &user.last_name,
            user.status,
        );
        if now == (username, first_name, last_name, status) {
            return Ok(user);
        }
        let row = user::ActiveModel {
            id: Unchanged(user.id),
            status: Set(status),
            version: Set(user.version.next()),
            updated_at: Set(Timestamp::now()),
            ..named(username, first_name, last_name)
        };
        Ok(row.update(tx).await?)
    }
}

impl Write for DeleteUser {
    type Output = ();

    async fn apply(&self, tx: &DatabaseTransaction) -> Result<()> {
        let Some(user) = lock(tx, self.id).await? else {
            return if self.allow_missing {
                Ok(())
            } else {
                Err(missing(self.id))
            };
        };
        if !user.version.satisfies(self.etag.as_ref()) {
            return Err(Error::EtagMismatch);
        }
        let groups = group_user::Entity::find()
            .select_only()
            .column(group_user::Column::GroupId)
            .filter(group_user::Column::UserId.eq(user.id))
            .into_query();
        group::Entity::update_many()
            .col_expr(
                group::Column::UserCount,
                Expr::col(group::Column::UserCount).sub(1),
            )
            .filter(group::Column::Id.in_subquery(groups))
            .exec(tx)
            .await?;
        // The associations go with the user: ON DELETE CASCADE.
        user::Entity::delete_by_id(user.id).exec(tx).await?;
        Ok(())
    }
}

async fn lock(tx: &DatabaseTransaction, id: UserId) -> Result<Option<user::Model>> {
    Ok(user::Entity::find_by_id(id)
        .lock_exclusive()
        .one(tx)
        .await?)
}

fn named(username: &Name, first_name: &Words, last_name: &Words) -> user::ActiveModel {
    user::ActiveModel {
        username: Set(username.clone()),
        username_key: Set(username.unique_key()),
        username_sort: Set(username.sort_key()),
        search_text: Set(Folded::user(username, first_name, last_name)),
        first_name: Set(first_name.clone()),
        last_name: Set(last_name.clone()),
        ..Default::default()
    }
}

fn cursor(user: &user::Model, by: SortBy) -> Cursor {
    Cursor {
        key: match by {
            SortBy::Name => CursorKey::Name(user.username_sort.clone()),
            SortBy::CreateTime => CursorKey::CreateTime(user.created_at),
        },
        id: user.id.uuid(),
    }
}

fn missing(id: UserId) -> Error {
    Error::NotFound(Missing::Users(vec![id]))
}
