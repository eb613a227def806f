//! The last states of deleted resources, in the changes that deleted them.

use sea_orm_migration::prelude::*;

use crate::ddl;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &str = "ALTER TABLE changes ADD COLUMN deleted {text};";

const DOWN: &str = "ALTER TABLE changes DROP COLUMN deleted;";

#[expect(
    elided_lifetimes_in_paths,
    reason = "under async_trait the trait's methods bind this lifetime early, which only the elided form does"
)]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    // Off by default on SQLite, where a crash would leave half a schema.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, DOWN).await
    }
}
