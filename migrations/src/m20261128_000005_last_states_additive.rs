//! What was deleted, as it was at last: in the change that deleted it.

use sea_orm_migration::prelude::*;

use crate::ddl;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &str = "ALTER TABLE changes ADD COLUMN deleted {text};";

const DOWN: &str = "ALTER TABLE changes DROP COLUMN deleted;";

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's async methods bind this lifetime early, which only eliding does"
)]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    // Off by default on SQLite, where a crash in the middle would leave half a schema.
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
