//! Revisions, changes, and stored responses to requests.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::ddl;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

// A change holds names as they were at its time. Its rows reference nothing: they outlive the resources they describe.
const UP: &str = r#"
CREATE TABLE directory (
    id              {int} NOT NULL,
    history_id      {id}  NOT NULL,
    revision        {big} NOT NULL,
    oldest_revision {big} NOT NULL,
    CONSTRAINT pk_directory                 PRIMARY KEY (id),
    CONSTRAINT ck_directory_id              CHECK (id = 1),
    CONSTRAINT ck_directory_history_id      CHECK (length(history_id) = 16), -- SQLite
    CONSTRAINT ck_directory_oldest_revision CHECK (oldest_revision BETWEEN 1 AND revision + 1)
) {strict};
INSERT INTO directory (id, history_id, revision, oldest_revision) VALUES (1, {new_uuid}, 0, 1);

CREATE TABLE changes (
    revision    {big}   NOT NULL,
    ordinal     {int}   NOT NULL,
    kind        {small} NOT NULL,
    time        {big}   NOT NULL,
    actor       {line}  NOT NULL,
    request_id  {id},
    group_id    {id},
    group_title {line},
    role_id     {id},
    role_name   {line},
    user_id     {id},
    username    {line},
    "before"    {text},
    "after"     {text},
    CONSTRAINT pk_changes          PRIMARY KEY (revision, ordinal),
    CONSTRAINT ck_changes_revision CHECK (revision >= 1),
    CONSTRAINT ck_changes_ordinal  CHECK (ordinal >= 0),
    CONSTRAINT ck_changes_kind     CHECK (kind >= 1),
    CONSTRAINT ck_changes_actor    CHECK ({chars}(actor) <= 255)
) {strict}, WITHOUT ROWID;
CREATE INDEX ix_changes_time ON changes (time);
CREATE INDEX ix_changes_actor ON changes (actor);
CREATE INDEX ix_changes_group ON changes (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX ix_changes_role ON changes (role_id) WHERE role_id IS NOT NULL;
CREATE INDEX ix_changes_user ON changes (user_id) WHERE user_id IS NOT NULL;

CREATE TABLE requests (
    id          {id}     NOT NULL,
    fingerprint {digest} NOT NULL,
    response    {bytes}  NOT NULL,
    created_at  {big}    NOT NULL,
    CONSTRAINT pk_requests             PRIMARY KEY (id),
    CONSTRAINT ck_requests_id          CHECK (length(id) = 16), -- SQLite
    CONSTRAINT ck_requests_fingerprint CHECK ({octets}(fingerprint) = 32)
) {strict}, WITHOUT ROWID;
CREATE INDEX ix_requests_created_at ON requests (created_at);
"#;

// Notifies all instances at the commit, so that they wake their watchers. It costs the writer no extra statement.
const UP_POSTGRES: &str = r"
CREATE FUNCTION tell_revision() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_notify('group_service_revision', NEW.revision::text); RETURN NULL; END $$;
CREATE TRIGGER tr_directory_revision AFTER UPDATE OF revision ON directory
    FOR EACH ROW EXECUTE FUNCTION tell_revision();
";

const DOWN_POSTGRES: &str = "DROP FUNCTION tell_revision() CASCADE;";

const DOWN: &str = r#"
DROP TABLE requests;
DROP TABLE changes;
DROP TABLE directory;
"#;

#[expect(
    elided_lifetimes_in_paths,
    reason = "under async_trait the trait's methods bind this lifetime early, which only the elided form does"
)]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    // Off by default on SQLite, where a crash would leave half a schema. On MariaDB and MySQL DDL isn't transactional:
    // `ddl` skips what exists already.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, UP).await?;
        if manager.get_database_backend() == DbBackend::Postgres {
            ddl::run(manager, UP_POSTGRES).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        if manager.get_database_backend() == DbBackend::Postgres {
            ddl::run(manager, DOWN_POSTGRES).await?;
        }
        ddl::run(manager, DOWN).await
    }
}
