//! Requests that are sent again: the first answer is kept for a day at least, in the transaction that it answers.

use std::time::Duration;

use sea_orm::{
    ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter, QuerySelect,
};

use super::{Db, write::Once, write::begin};
use crate::{
    domain::{FieldViolation, RequestId, Timestamp},
    entity::request,
    error::{Error, Result},
};

/// How long an answer is kept at least.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How many are forgotten in one transaction.
const STEP: u64 = 500;

/// What the request was answered, if it was. An answer counts for as long as it is there: only [`forget`] judges its
/// age.
pub(super) async fn answered(tx: &DatabaseTransaction, once: &Once) -> Result<Option<Vec<u8>>> {
    let Some(kept) = request::Entity::find_by_id(once.id).one(tx).await? else {
        return Ok(None);
    };
    if kept.fingerprint != once.fingerprint && kept.fingerprint != once.as_sent {
        return Err(Error::Invalid(vec![FieldViolation {
            field: "request_id".to_owned(),
            description: "must not be that of another request".to_owned(),
        }]));
    }
    Ok(Some(kept.response))
}

/// Keeps what the request is answered.
pub(super) async fn keep(
    tx: &DatabaseTransaction,
    once: &Once,
    response: Vec<u8>,
    now: Timestamp,
) -> Result<()> {
    let row = request::ActiveModel {
        id: Set(once.id),
        fingerprint: Set(once.fingerprint.to_vec()),
        response: Set(response),
        created_at: Set(now),
    };
    request::Entity::insert(row)
        .exec_without_returning(tx)
        .await?;
    Ok(())
}

/// Forgets some answers that were kept long enough; whether there may be more.
///
/// # Errors
/// The database is unavailable.
pub async fn forget(db: &Db) -> Result<bool> {
    let before = db.clock.now().before(KEPT);
    let tx = begin(db).await?;
    let old: Vec<RequestId> = request::Entity::find()
        .select_only()
        .column(request::Column::Id)
        .filter(request::Column::CreatedAt.lt(before))
        .limit(STEP)
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
    Ok(old.len() as u64 == STEP)
}
