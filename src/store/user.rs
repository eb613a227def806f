//! Users.

mod read;
mod write;

use sea_orm::{ConnectionTrait, EntityTrait, PaginatorTrait};

use super::page::Keyset;
use crate::{
    domain::{Cursor, CursorKey, SortBy, UserId},
    entity::user,
    error::{Error, MissingResource, Result},
};

pub(super) const KEYSET: Keyset<user::Column> = Keyset {
    name: user::Column::UsernameSort,
    created_at: user::Column::CreatedAt,
    id: user::Column::Id,
};

/// Fails with `NotFound` if the user doesn't exist.
pub(super) async fn must_exist(db: &impl ConnectionTrait, id: UserId) -> Result<()> {
    match user::Entity::find_by_id(id).count(db).await? {
        0 => Err(missing(id)),
        _ => Ok(()),
    }
}

pub(super) fn cursor(user: &user::Model, by: SortBy) -> Cursor {
    Cursor {
        key: match by {
            SortBy::Name | SortBy::Revision => CursorKey::Name(user.username_sort.clone()),
            SortBy::CreateTime => CursorKey::CreateTime(user.created_at),
        },
        id: user.id.uuid(),
        within: None,
    }
}

fn missing(id: UserId) -> Error {
    Error::NotFound(MissingResource::Users(vec![id]))
}
