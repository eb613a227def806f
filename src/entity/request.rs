//! Stored responses to requests that have a request id.

use sea_orm::entity::prelude::*;

use crate::domain::{RequestId, Timestamp};

/// A row of `requests`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "requests")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: RequestId,
    /// A digest of the whole request, and of its actor.
    pub fingerprint: Vec<u8>,
    pub response: Vec<u8>,
    pub created_at: Timestamp,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
