//! Idempotent requests: the first response is stored in the transaction of the write, and kept for at least a day.

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect,
};

use super::{Db, write::IdempotencyKey, write::begin};
use crate::{
    domain::{FieldViolation, RequestId, Timestamp},
    entity::request,
    error::{Error, Result},
};

/// How long a response is kept at least.
const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);
/// Maximum number of responses deleted in one transaction.
const BATCH_ROWS: u64 = 500;

/// The stored response to the request, if there is one. It counts as long as it is stored: only [`delete_expired`]
/// considers its age.
pub(super) async fn find_response(
    tx: &DatabaseTransaction,
    idempotency_key: &IdempotencyKey,
) -> Result<Option<Vec<u8>>> {
    let Some(row) = request::Entity::find_by_id(idempotency_key.id)
        .one(tx)
        .await?
    else {
        return Ok(None);
    };
    if row.fingerprint != idempotency_key.fingerprint
        && row.fingerprint != idempotency_key.raw_fingerprint
    {
        return Err(Error::Invalid(vec![FieldViolation {
            field: "request_id".to_owned(),
            description: "must not be that of another request".to_owned(),
        }]));
    }
    Ok(Some(row.response))
}

/// Stores the response to the request.
pub(super) async fn store_response(
    tx: &DatabaseTransaction,
    idempotency_key: &IdempotencyKey,
    response: Vec<u8>,
    now: Timestamp,
) -> Result<()> {
    let row = request::ActiveModel {
        id: Set(idempotency_key.id),
        fingerprint: Set(idempotency_key.fingerprint.to_vec()),
        response: Set(response),
        created_at: Set(now),
    };
    request::Entity::insert(row)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

/// Deletes a batch of expired responses; returns whether there may be more.
///
/// # Errors
/// The database is unavailable.
pub async fn delete_expired(db: &Db) -> Result<bool> {
    let before = db.clock.now().minus(RETENTION);
    let tx = begin(db).await?;
    let old: Vec<RequestId> = request::Entity::find()
        .select_only()
        .column(request::Column::Id)
        .filter(request::Column::CreatedAt.lt(before))
        .limit(BATCH_ROWS)
        .into_tuple()
        .all(&tx)
        .await?;
    if !old.is_empty() {
        request::Entity::delete_many()
            .filter(request::Column::Id.is_in(old.iter().copied()))
            .exec(&tx)
            .await?;
    }
    db.statements.commit(tx).await?;
    Ok(old.len() as u64 == BATCH_ROWS)
}
