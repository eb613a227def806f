//! Tokens that authenticate callers.

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder, Select, sea_query::Expr,
};

use super::{Db, statements, write::begin};
use crate::{
    domain::{Caller, Permissions, Token, TokenId},
    entity::token,
    error::Result,
};

/// Stores a new token of `caller`, which expires after `lifetime`, or never.
///
/// # Errors
/// The database is unavailable.
pub async fn add(
    db: &Db,
    token: &Token,
    caller: Caller,
    permissions: Permissions,
    lifetime: Option<Duration>,
) -> Result<token::Model> {
    let now = db.now();
    let row = token::ActiveModel {
        id: Set(token.id()),
        caller: Set(caller),
        digest: Set(token.digest()),
        permissions: Set(permissions),
        created_at: Set(now),
        expires_at: Set(lifetime.map(|time| now.plus(time))),
        revoked_at: Set(None),
    };
    let tx = begin(db).await?;
    let model = statements::insert(&tx, row).await?;
    db.statements.commit(tx).await?;
    Ok(model)
}

/// Revokes a token; false if there is no unrevoked token with this id.
///
/// # Errors
/// The database is unavailable.
pub async fn revoke(db: &Db, id: TokenId) -> Result<bool> {
    let tx = begin(db).await?;
    let revoked = token::Entity::update_many()
        .col_expr(token::Column::RevokedAt, Expr::value(db.now()))
        .filter(token::Column::Id.eq(id))
        .filter(token::Column::RevokedAt.is_null())
        .exec(&tx)
        .await?;
    db.statements.commit(tx).await?;
    Ok(revoked.rows_affected > 0)
}

/// All tokens, in order of creation.
///
/// # Errors
/// The database is unavailable.
pub async fn list(db: &Db) -> Result<Vec<token::Model>> {
    read(db, token::Entity::find()).await
}

/// All unrevoked tokens, including expired ones.
///
/// # Errors
/// The database is unavailable.
pub async fn valid(db: &Db) -> Result<Vec<token::Model>> {
    let valid = token::Entity::find().filter(token::Column::RevokedAt.is_null());
    read(db, valid).await
}

async fn read(db: &Db, select: Select<token::Entity>) -> Result<Vec<token::Model>> {
    let select = select.order_by_asc(token::Column::Id).into_model();
    let read = async { Ok(select.all(&db.sync_pool).await?) };
    db.health.while_reachable(read).await
}
