//! Reading users.

use sea_orm::{
    ColumnTrait, EntityTrait, JoinType, PaginatorTrait, QueryFilter, QuerySelect, RelationTrait,
};

use super::{KEYSET, cursor, missing};
use crate::{
    domain::{Get, ListUsers, ListUsersInGroup, UserId},
    entity::{group_user, user},
    error::Result,
    store::{
        At, Db, Page,
        page::{contains, cut},
    },
};

/// Gets a user.
///
/// # Errors
/// Not found, or the database is unavailable.
pub async fn get(db: &Db, get: Get<UserId>) -> Result<At<user::Model>> {
    let Get { id, min_revision } = get;
    let (snapshot, revision) = db.seen(min_revision).await?;
    let found = user::Entity::find_by_id(id).one(&snapshot).await?;
    let value = found.ok_or_else(|| missing(id))?;
    Ok(At { value, revision })
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
        min_revision,
    } = list;
    let mut select = user::Entity::find();
    if let Some(query) = query {
        select = select.filter(contains(user::Column::SearchText, query));
    }
    if let Some(status) = status {
        select = select.filter(user::Column::Status.eq(*status));
    }
    let (snapshot, revision) = db.seen(*min_revision).await?;
    let models = KEYSET.select(select, page).all(&snapshot).await?;
    Ok(Page {
        revision,
        ..cut(models, page, cursor)
    })
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
        min_revision,
    } = list;
    let mut select = user::Entity::find()
        .join_rev(JoinType::InnerJoin, group_user::Relation::User.def())
        .filter(group_user::Column::GroupId.eq(*group_id));
    if let Some(query) = query {
        select = select.filter(contains(user::Column::SearchText, query));
    }
    let (snapshot, revision) = db.seen(*min_revision).await?;
    let total_size = if *with_total_size {
        Some(select.clone().count(&snapshot).await?)
    } else {
        None
    };
    let models = KEYSET.select(select, page).all(&snapshot).await?;
    if models.is_empty() {
        crate::store::group::must_exist(&snapshot, *group_id).await?;
    }
    Ok(Page {
        revision,
        total_size,
        ..cut(models, page, cursor)
    })
}
