//! The summary of a backup, and the check of its integrity.

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbErr, EntityTrait, PaginatorTrait, QueryOrder, Statement,
};

use crate::{
    domain::{HistoryId, Revision, Timestamp},
    entity::{change, group, role, user},
    store::{change::read_directory, open::root_cause, schema},
};

/// The oldest schema that this version can check: later migrations only add to what it reads.
const OLDEST_SUPPORTED_MIGRATION: &str = "m20261124_000003_large_directories";

/// Descriptions of integrity violations, and the statements that count them.
const INTEGRITY_CHECKS: [(&str, &str); 8] = [
    (
        "rows that refer to others which aren't there",
        "SELECT count(*) FROM pragma_foreign_key_check",
    ),
    (
        "groups that count their roles wrong",
        "SELECT count(*) FROM \"groups\" g
          WHERE role_count <> (SELECT count(*) FROM group_roles WHERE group_id = g.id)",
    ),
    (
        "groups that count their users wrong",
        "SELECT count(*) FROM \"groups\" g
          WHERE user_count <> (SELECT count(*) FROM group_users WHERE group_id = g.id)",
    ),
    (
        "roles that count their groups or rules wrong",
        "SELECT count(*) FROM roles r
          WHERE group_count <> (SELECT count(*) FROM group_roles WHERE role_id = r.id)
             OR rule_count <> (SELECT count(*) FROM role_rules WHERE role_id = r.id)",
    ),
    (
        "wrong counts of all groups",
        "SELECT count(*) FROM directory WHERE group_count <> (SELECT count(*) FROM \"groups\")",
    ),
    (
        "rows that a search can't find",
        "SELECT (SELECT count(*) FROM \"groups\" WHERE id NOT IN (SELECT id FROM group_search))
              + (SELECT count(*) FROM roles WHERE id NOT IN (SELECT id FROM role_search))
              + (SELECT count(*) FROM users WHERE id NOT IN (SELECT id FROM user_search))",
    ),
    // Changes that have expired may be deleted in part.
    (
        "revisions missing from the history",
        "SELECT abs(revision - oldest_revision + 1
              - (SELECT count(DISTINCT revision) FROM changes WHERE revision >= oldest_revision))
              + (SELECT count(*) FROM changes c WHERE c.revision > d.revision) FROM directory d",
    ),
    (
        "revisions that miss some of their changes",
        "SELECT count(*) FROM (SELECT 1 FROM changes
          WHERE revision >= (SELECT oldest_revision FROM directory)
          GROUP BY revision HAVING max(ordinal) + 1 <> count(*))",
    ),
];

/// A summary of what a database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackupSummary {
    /// The id of its history.
    pub history: HistoryId,
    /// Its latest revision.
    pub revision: Revision,
    /// The oldest revision whose changes it has.
    pub oldest: Revision,
    /// When its last change was made, if it has one.
    pub changed: Option<Timestamp>,
    /// How many groups there are.
    pub groups: u64,
    /// How many roles there are.
    pub roles: u64,
    /// How many users there are.
    pub users: u64,
}

/// Rejects a database that isn't this service's, or whose schema this version can't work with.
pub(super) async fn check_compatible(db: &DatabaseConnection) -> Result<(), String> {
    let migrations = schema::status(db)
        .await
        .map_err(|error| root_cause(&error))??;
    let missing = migrations
        .iter()
        .find(|migration| !migration.applied && &*migration.name <= OLDEST_SUPPORTED_MIGRATION);
    match missing {
        None => Ok(()),
        Some(missing) => Err(format!(
            "its schema is too old to look into (it lacks {}): use the version that wrote it",
            missing.name
        )),
    }
}

/// Rejects a database that is damaged or inconsistent.
pub(super) async fn check(db: &DatabaseConnection) -> Result<(), String> {
    let driver = |error: DbErr| root_cause(&error);
    let found = schema::query_strings(db, "PRAGMA integrity_check(1)").await;
    if let Some(damage) = found.map_err(driver)?.into_iter().find(|line| line != "ok") {
        let lines: Vec<_> = damage.lines().collect();
        return Err(format!("it is damaged: {}", lines.join(" ")));
    }
    for (what, sql) in INTEGRITY_CHECKS {
        let statement = Statement::from_string(db.get_database_backend(), sql);
        let row = db.query_one_raw(statement).await.map_err(driver)?;
        let count: Option<i64> = row.and_then(|row| row.try_get_by_index(0).ok());
        match count {
            Some(0) => {}
            Some(count) => return Err(format!("it contradicts itself: {count} {what}")),
            None => return Err("it contradicts itself: the directory has no row".to_owned()),
        }
    }
    Ok(())
}

/// Summarizes what the database holds.
pub(super) async fn summarize(db: &DatabaseConnection) -> Result<BackupSummary, String> {
    let driver = |error: DbErr| root_cause(&error);
    let directory = read_directory(db)
        .await
        .map_err(|error| root_cause(&error))?;
    let last = change::Entity::find()
        .order_by_desc(change::Column::Revision)
        .one(db);
    Ok(BackupSummary {
        history: directory.history_id,
        revision: directory.revision,
        oldest: directory.oldest_revision,
        changed: last.await.map_err(driver)?.map(|change| change.time),
        groups: group::Entity::find().count(db).await.map_err(driver)?,
        roles: role::Entity::find().count(db).await.map_err(driver)?,
        users: user::Entity::find().count(db).await.map_err(driver)?,
    })
}
