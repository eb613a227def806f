//! Revisions, changes, and what requests were answered.

use sea_orm_migration::prelude::*;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

// Names stand in a change as they were then. Its rows refer to nothing: they outlive what they tell of.
const UP: &str = r"
CREATE TABLE directory (
    id              INTEGER NOT NULL,
    history_id      BLOB    NOT NULL,
    revision        INTEGER NOT NULL,
    oldest_revision INTEGER NOT NULL,
    CONSTRAINT pk_directory                 PRIMARY KEY (id),
    CONSTRAINT ck_directory_id              CHECK (id = 1),
    CONSTRAINT ck_directory_history_id      CHECK (length(history_id) = 16),
    CONSTRAINT ck_directory_oldest_revision CHECK (oldest_revision BETWEEN 1 AND revision + 1)
) STRICT;
INSERT INTO directory (id, history_id, revision, oldest_revision) VALUES (1, randomblob(16), 0, 1);

CREATE TABLE changes (
    revision    INTEGER NOT NULL,
    ordinal     INTEGER NOT NULL,
    kind        INTEGER NOT NULL,
    time        INTEGER NOT NULL,
    actor       TEXT    NOT NULL,
    request_id  BLOB,
    group_id    BLOB,
    group_title TEXT,
    role_id     BLOB,
    role_name   TEXT,
    user_id     BLOB,
    username    TEXT,
    before      TEXT,
    after       TEXT,
    CONSTRAINT pk_changes          PRIMARY KEY (revision, ordinal),
    CONSTRAINT ck_changes_revision CHECK (revision >= 1),
    CONSTRAINT ck_changes_ordinal  CHECK (ordinal >= 0),
    CONSTRAINT ck_changes_kind     CHECK (kind >= 1),
    CONSTRAINT ck_changes_actor    CHECK (length(actor) <= 255)
) STRICT, WITHOUT ROWID;
CREATE INDEX ix_changes_time ON changes (time);
CREATE INDEX ix_changes_actor ON changes (actor);
CREATE INDEX ix_changes_group ON changes (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX ix_changes_role ON changes (role_id) WHERE role_id IS NOT NULL;
CREATE INDEX ix_changes_user ON changes (user_id) WHERE user_id IS NOT NULL;

CREATE TABLE requests (
    id          BLOB    NOT NULL,
    fingerprint BLOB    NOT NULL,
    response    BLOB    NOT NULL,
    created_at  INTEGER NOT NULL,
    CONSTRAINT pk_requests             PRIMARY KEY (id),
    CONSTRAINT ck_requests_id          CHECK (length(id) = 16),
    CONSTRAINT ck_requests_fingerprint CHECK (length(fingerprint) = 32)
) STRICT, WITHOUT ROWID;
CREATE INDEX ix_requests_created_at ON requests (created_at);
";

const DOWN: &str = r"
DROP TABLE requests;
DROP TABLE changes;
DROP TABLE directory;
";

#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait's async methods bind this lifetime early, which only eliding does"
)]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    // Off by default on SQLite; a crash in the middle would leave half a schema.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(UP).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(DOWN).await?;
        Ok(())
    }
}
