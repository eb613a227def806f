//! Tokens that authenticate callers.

use sea_orm_migration::prelude::*;

use crate::ddl;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

const UP: &str = r#"
CREATE TABLE tokens (
    id          {id}     NOT NULL,
    caller      {line}   NOT NULL,
    digest      {digest} NOT NULL,
    permissions {small}  NOT NULL,
    created_at  {big}    NOT NULL,
    expires_at  {big},
    revoked_at  {big},
    CONSTRAINT pk_tokens             PRIMARY KEY (id),
    CONSTRAINT ck_tokens_id          CHECK (length(id) = 16), -- SQLite
    CONSTRAINT ck_tokens_caller      CHECK ({chars}(caller) BETWEEN 1 AND 255),
    CONSTRAINT ck_tokens_digest      CHECK ({octets}(digest) = 32),
    CONSTRAINT ck_tokens_permissions CHECK (permissions >= 1)
) {strict}, WITHOUT ROWID;
"#;

const DOWN: &str = "DROP TABLE tokens;";

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
