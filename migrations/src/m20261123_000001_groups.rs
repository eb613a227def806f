//! Groups, roles and their rules, users, and their assignments.

use sea_orm_migration::prelude::*;

use crate::ddl;

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

// Every constraint has a name: `src/store/errors.rs` maps those that a request can violate to errors. Ids are UUIDs of
// 16 bytes, times are microseconds since 1970 in UTC, keys and sort keys are bytes: they compare alike on every engine.
const UP: &str = r#"
CREATE TABLE roles (
    id          {id}     NOT NULL,
    name        {line}   NOT NULL,
    name_key    {digest} NOT NULL,
    name_sort   {sort}   NOT NULL,
    search_text {text}   NOT NULL,
    description {text}   NOT NULL,
    group_count {big}    NOT NULL,
    rule_count  {big}    NOT NULL,
    version     {big}    NOT NULL,
    created_at  {big}    NOT NULL,
    updated_at  {big}    NOT NULL,
    CONSTRAINT pk_roles             PRIMARY KEY (id),
    CONSTRAINT uq_roles_name_key    UNIQUE (name_key),
    CONSTRAINT ck_roles_id          CHECK (length(id) = 16), -- SQLite
    CONSTRAINT ck_roles_name        CHECK ({chars}(name) BETWEEN 1 AND 255),
    CONSTRAINT ck_roles_name_key    CHECK ({octets}(name_key) = 32),
    CONSTRAINT ck_roles_description CHECK ({chars}(description) <= 1000),
    CONSTRAINT ck_roles_group_count CHECK (group_count >= 0),
    CONSTRAINT ck_roles_rule_count  CHECK (rule_count BETWEEN 0 AND 1000),
    CONSTRAINT ck_roles_version     CHECK (version >= 1)
) {strict};
CREATE INDEX ix_roles_name_sort ON roles (name_sort, id);
CREATE INDEX ix_roles_created_at ON roles (created_at, id);

CREATE TABLE role_rules (
    role_id    {id}    NOT NULL,
    bundle     {word}  NOT NULL,
    controller {word}  NOT NULL,
    action     {word}  NOT NULL,
    effect     {small} NOT NULL,
    CONSTRAINT pk_role_rules            PRIMARY KEY (role_id, bundle, controller, action, effect),
    CONSTRAINT fk_role_rules_role       FOREIGN KEY (role_id) REFERENCES roles (id) ON DELETE CASCADE,
    CONSTRAINT ck_role_rules_bundle     CHECK ({chars}(bundle) BETWEEN 1 AND 60),
    CONSTRAINT ck_role_rules_controller CHECK ({chars}(controller) BETWEEN 1 AND 60),
    CONSTRAINT ck_role_rules_action     CHECK ({chars}(action) BETWEEN 1 AND 45),
    CONSTRAINT ck_role_rules_effect     CHECK (effect IN (1, 2))
) {strict}, WITHOUT ROWID;
CREATE INDEX ix_role_rules_rule ON role_rules (bundle, controller, action, role_id);

CREATE TABLE users (
    id            {id}     NOT NULL,
    username      {line}   NOT NULL,
    username_key  {digest} NOT NULL,
    username_sort {sort}   NOT NULL,
    search_text   {text}   NOT NULL,
    first_name    {line}   NOT NULL,
    last_name     {line}   NOT NULL,
    status        {small}  NOT NULL,
    version       {big}    NOT NULL,
    created_at    {big}    NOT NULL,
    updated_at    {big}    NOT NULL,
    CONSTRAINT pk_users              PRIMARY KEY (id),
    CONSTRAINT uq_users_username_key UNIQUE (username_key),
    CONSTRAINT ck_users_id           CHECK (length(id) = 16), -- SQLite
    CONSTRAINT ck_users_username     CHECK ({chars}(username) BETWEEN 1 AND 255),
    CONSTRAINT ck_users_username_key CHECK ({octets}(username_key) = 32),
    CONSTRAINT ck_users_first_name   CHECK ({chars}(first_name) <= 255),
    CONSTRAINT ck_users_last_name    CHECK ({chars}(last_name) <= 255),
    CONSTRAINT ck_users_status       CHECK (status IN (1, 2)),
    CONSTRAINT ck_users_version      CHECK (version >= 1)
) {strict};
CREATE INDEX ix_users_username_sort ON users (username_sort, id);
CREATE INDEX ix_users_created_at ON users (created_at, id);
CREATE INDEX ix_users_status_username_sort ON users (status, username_sort, id);
CREATE INDEX ix_users_status_created_at ON users (status, created_at, id);

CREATE TABLE "groups" (
    id          {id}     NOT NULL,
    title       {line}   NOT NULL,
    title_key   {digest} NOT NULL,
    title_sort  {sort}   NOT NULL,
    search_text {text}   NOT NULL,
    role_count  {big}    NOT NULL,
    user_count  {big}    NOT NULL,
    version     {big}    NOT NULL,
    created_at  {big}    NOT NULL,
    updated_at  {big}    NOT NULL,
    CONSTRAINT pk_groups            PRIMARY KEY (id),
    CONSTRAINT uq_groups_title_key  UNIQUE (title_key),
    CONSTRAINT ck_groups_id         CHECK (length(id) = 16), -- SQLite
    CONSTRAINT ck_groups_title      CHECK ({chars}(title) BETWEEN 1 AND 255),
    CONSTRAINT ck_groups_title_key  CHECK ({octets}(title_key) = 32),
    CONSTRAINT ck_groups_role_count CHECK (role_count >= 1),
    CONSTRAINT ck_groups_user_count CHECK (user_count >= 0),
    CONSTRAINT ck_groups_version    CHECK (version >= 1)
) {strict};
CREATE INDEX ix_groups_title_sort ON "groups" (title_sort, id);
CREATE INDEX ix_groups_created_at ON "groups" (created_at, id);

CREATE TABLE group_roles (
    group_id {id} NOT NULL,
    role_id  {id} NOT NULL,
    CONSTRAINT pk_group_roles       PRIMARY KEY (group_id, role_id),
    CONSTRAINT fk_group_roles_group FOREIGN KEY (group_id) REFERENCES "groups" (id) ON DELETE CASCADE,
    CONSTRAINT fk_group_roles_role  FOREIGN KEY (role_id)  REFERENCES roles (id)  ON DELETE RESTRICT
) {strict}, WITHOUT ROWID;
CREATE INDEX ix_group_roles_role ON group_roles (role_id, group_id);

CREATE TABLE group_users (
    group_id {id} NOT NULL,
    user_id  {id} NOT NULL,
    CONSTRAINT pk_group_users       PRIMARY KEY (group_id, user_id),
    CONSTRAINT fk_group_users_group FOREIGN KEY (group_id) REFERENCES "groups" (id) ON DELETE CASCADE,
    CONSTRAINT fk_group_users_user  FOREIGN KEY (user_id)  REFERENCES users (id)  ON DELETE CASCADE
) {strict}, WITHOUT ROWID;
CREATE INDEX ix_group_users_user ON group_users (user_id, group_id);
"#;

const DOWN: &str = r#"
DROP TABLE group_users;
DROP TABLE group_roles;
DROP TABLE "groups";
DROP TABLE users;
DROP TABLE role_rules;
DROP TABLE roles;
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
        ddl::run(manager, UP).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        ddl::run(manager, DOWN).await
    }
}
