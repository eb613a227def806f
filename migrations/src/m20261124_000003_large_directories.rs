//! Large directories: copies of sort keys in the association tables, counters, and search indexes.

use sea_orm_migration::{prelude::*, sea_orm::DbBackend};

use crate::ddl;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

// With these columns, a page of a group's users, or of the groups of a user or a role, is an index range. The columns
// have defaults because of existing rows; all later rows have explicit values.
const UP: &str = r#"
ALTER TABLE directory ADD COLUMN group_count {big} NOT NULL DEFAULT 0;
ALTER TABLE directory ADD COLUMN latest_time {big} NOT NULL DEFAULT 0;
ALTER TABLE directory ADD COLUMN clock_skew {big} NOT NULL DEFAULT 0;
UPDATE directory SET
    group_count = (SELECT count(*) FROM "groups"),
    latest_time = (SELECT coalesce(max(time), 0) FROM changes),
    clock_skew  = (SELECT coalesce(max(latest - time), 0) FROM (
        SELECT time, max(time) OVER (ORDER BY revision, ordinal) AS latest FROM changes
    ) times);
CREATE INDEX ix_changes_kind ON changes (kind, revision, ordinal);

ALTER TABLE group_roles ADD COLUMN title_sort {sort} NOT NULL DEFAULT {no_bytes};
ALTER TABLE group_roles ADD COLUMN group_created_at {big} NOT NULL DEFAULT 0;
UPDATE group_roles SET
    title_sort       = (SELECT g.title_sort FROM "groups" g WHERE g.id = group_roles.group_id),
    group_created_at = (SELECT g.created_at FROM "groups" g WHERE g.id = group_roles.group_id);
CREATE INDEX ix_group_roles_title_sort ON group_roles (role_id, title_sort, group_id);
CREATE INDEX ix_group_roles_created_at ON group_roles (role_id, group_created_at, group_id);
DROP INDEX ix_group_roles_role ON group_roles;

ALTER TABLE group_users ADD COLUMN username_sort {sort} NOT NULL DEFAULT {no_bytes};
ALTER TABLE group_users ADD COLUMN title_sort {sort} NOT NULL DEFAULT {no_bytes};
ALTER TABLE group_users ADD COLUMN group_created_at {big} NOT NULL DEFAULT 0;
UPDATE group_users SET
    username_sort    = (SELECT u.username_sort FROM users u WHERE u.id = group_users.user_id),
    title_sort       = (SELECT g.title_sort FROM "groups" g WHERE g.id = group_users.group_id),
    group_created_at = (SELECT g.created_at FROM "groups" g WHERE g.id = group_users.group_id);
CREATE INDEX ix_group_users_username_sort ON group_users (group_id, username_sort, user_id);
CREATE INDEX ix_group_users_title_sort ON group_users (user_id, title_sort, group_id);
CREATE INDEX ix_group_users_created_at ON group_users (user_id, group_created_at, group_id);
DROP INDEX ix_group_users_user ON group_users;
"#;

const DOWN: &str = r#"
CREATE INDEX ix_group_users_user ON group_users (user_id, group_id);
DROP INDEX ix_group_users_username_sort ON group_users;
DROP INDEX ix_group_users_title_sort ON group_users;
DROP INDEX ix_group_users_created_at ON group_users;
ALTER TABLE group_users DROP COLUMN username_sort;
ALTER TABLE group_users DROP COLUMN title_sort;
ALTER TABLE group_users DROP COLUMN group_created_at;

CREATE INDEX ix_group_roles_role ON group_roles (role_id, group_id);
DROP INDEX ix_group_roles_title_sort ON group_roles;
DROP INDEX ix_group_roles_created_at ON group_roles;
ALTER TABLE group_roles DROP COLUMN title_sort;
ALTER TABLE group_roles DROP COLUMN group_created_at;

DROP INDEX ix_changes_kind ON changes;
ALTER TABLE directory DROP COLUMN group_count;
ALTER TABLE directory DROP COLUMN latest_time;
ALTER TABLE directory DROP COLUMN clock_skew;
"#;

// On the other engines every index ends with the primary key anyway.
const UP_POSTGRES: &str = r"
DROP INDEX ix_changes_actor ON changes;
DROP INDEX ix_changes_group ON changes;
DROP INDEX ix_changes_role ON changes;
DROP INDEX ix_changes_user ON changes;
CREATE INDEX ix_changes_actor ON changes (actor, revision, ordinal);
CREATE INDEX ix_changes_group ON changes (group_id, revision, ordinal) WHERE group_id IS NOT NULL;
CREATE INDEX ix_changes_role ON changes (role_id, revision, ordinal) WHERE role_id IS NOT NULL;
CREATE INDEX ix_changes_user ON changes (user_id, revision, ordinal) WHERE user_id IS NOT NULL;
";

const DOWN_POSTGRES: &str = r"
DROP INDEX ix_changes_actor ON changes;
DROP INDEX ix_changes_group ON changes;
DROP INDEX ix_changes_role ON changes;
DROP INDEX ix_changes_user ON changes;
CREATE INDEX ix_changes_actor ON changes (actor);
CREATE INDEX ix_changes_group ON changes (group_id) WHERE group_id IS NOT NULL;
CREATE INDEX ix_changes_role ON changes (role_id) WHERE role_id IS NOT NULL;
CREATE INDEX ix_changes_user ON changes (user_id) WHERE user_id IS NOT NULL;
";

/// The searchable tables, and the names that their indexes begin with.
const SEARCHED: [[&str; 2]; 3] = [["groups", "group"], ["roles", "role"], ["users", "user"]];

// `number` identifies a row in the index: rowids of the table itself may change at a VACUUM. The index holds no texts,
// only which rows contain a trigram; the texts are already folded.
const UP_SQLITE: &str = r#"
CREATE TABLE {name}_search (
    number INTEGER NOT NULL,
    id     BLOB    NOT NULL,
    CONSTRAINT pk_{name}_search    PRIMARY KEY (number),
    CONSTRAINT uq_{name}_search_id UNIQUE (id)
) STRICT;
CREATE VIRTUAL TABLE {name}_trigrams
    USING fts5(text, content='', contentless_delete=1, detail=none, tokenize='trigram case_sensitive 1');
INSERT INTO {name}_search (id) SELECT id FROM "{table}" ORDER BY id;
INSERT INTO {name}_trigrams (rowid, text)
    SELECT s.number, t.search_text FROM {name}_search s JOIN "{table}" t ON t.id = s.id;
CREATE TRIGGER tr_{table}_search_insert AFTER INSERT ON "{table}" BEGIN
    INSERT INTO {name}_search (id) VALUES (NEW.id);
    INSERT INTO {name}_trigrams (rowid, text) VALUES (last_insert_rowid(), NEW.search_text);
END;
CREATE TRIGGER tr_{table}_search_update AFTER UPDATE OF search_text ON "{table}"
WHEN NEW.search_text <> OLD.search_text BEGIN
    UPDATE {name}_trigrams SET text = NEW.search_text
    WHERE rowid = (SELECT number FROM {name}_search WHERE id = NEW.id);
END;
CREATE TRIGGER tr_{table}_search_delete AFTER DELETE ON "{table}" BEGIN
    DELETE FROM {name}_trigrams WHERE rowid = (SELECT number FROM {name}_search WHERE id = OLD.id);
    DELETE FROM {name}_search WHERE id = OLD.id;
END;
"#;

const DOWN_SQLITE: &str = r#"
DROP TRIGGER tr_{table}_search_insert;
DROP TRIGGER tr_{table}_search_update;
DROP TRIGGER tr_{table}_search_delete;
DROP TABLE {name}_trigrams;
DROP TABLE {name}_search;
"#;

// The extension is trusted: a role that may create objects in the database may create it. Without it everything still
// works, but selective searches take longer.
const UP_POSTGRES_SEARCH: &str = r#"
DO $$ BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    CREATE INDEX ix_groups_search_text ON "groups" USING gin (search_text gin_trgm_ops);
    CREATE INDEX ix_roles_search_text ON roles USING gin (search_text gin_trgm_ops);
    CREATE INDEX ix_users_search_text ON users USING gin (search_text gin_trgm_ops);
EXCEPTION WHEN insufficient_privilege OR feature_not_supported OR undefined_file OR undefined_object THEN
    RAISE WARNING 'searches go without an index: %', SQLERRM;
END $$
"#;

const DOWN_POSTGRES_SEARCH: &str = r"
DROP INDEX IF EXISTS ix_groups_search_text;
DROP INDEX IF EXISTS ix_roles_search_text;
DROP INDEX IF EXISTS ix_users_search_text;
";

/// Executes a text once for each searchable table. It isn't split at semicolons: triggers contain statements.
async fn run_for_each_searched_table(manager: &SchemaManager<'_>, text: &str) -> Result<(), DbErr> {
    for [table, name] in SEARCHED {
        let text = text.replace("{table}", table).replace("{name}", name);
        manager.get_connection().execute_unprepared(&text).await?;
    }
    Ok(())
}

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
        match manager.get_database_backend() {
            DbBackend::Postgres => {
                ddl::run(manager, UP_POSTGRES).await?;
                let db = manager.get_connection();
                db.execute_unprepared(UP_POSTGRES_SEARCH).await?;
                Ok(())
            }
            DbBackend::Sqlite => run_for_each_searched_table(manager, UP_SQLITE).await,
            _ => Ok(()),
        }
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        match manager.get_database_backend() {
            DbBackend::Postgres => {
                ddl::run(manager, DOWN_POSTGRES).await?;
                ddl::run(manager, DOWN_POSTGRES_SEARCH).await?;
            }
            DbBackend::Sqlite => run_for_each_searched_table(manager, DOWN_SQLITE).await?,
            _ => {}
        }
        ddl::run(manager, DOWN).await
    }
}
