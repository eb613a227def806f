//! The schema: checks whether the database belongs to this service, and migrates it to this version.

use migrations::{Migrator, MigratorTrait, is_additive};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};

use super::engine::{mysql, postgres, sqlite};

const MIGRATION_TABLE: &str = "seaql_migrations";
/// All tables that this version creates.
const TABLES: [&str; 29] = [
    MIGRATION_TABLE,
    "changes",
    "directory",
    "group_roles",
    "group_search",
    "group_trigrams",
    "group_trigrams_config",
    "group_trigrams_data",
    "group_trigrams_docsize",
    "group_trigrams_idx",
    "group_users",
    "groups",
    "requests",
    "role_rules",
    "role_search",
    "role_trigrams",
    "role_trigrams_config",
    "role_trigrams_data",
    "role_trigrams_docsize",
    "role_trigrams_idx",
    "roles",
    "tokens",
    "user_search",
    "user_trigrams",
    "user_trigrams_config",
    "user_trigrams_data",
    "user_trigrams_docsize",
    "user_trigrams_idx",
    "users",
];
/// Maximum number of attempts at a migration that conflicts with the same one on another node of a cluster.
const ATTEMPTS: u32 = 10;

/// A migration and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Its name.
    pub name: String,
    /// Whether it is applied.
    pub applied: bool,
    /// Whether this version knows it.
    pub known: bool,
}

/// All migrations that this version knows or the database has, in order; the inner error says why this version can't
/// work with the database.
pub(super) async fn status(
    db: &DatabaseConnection,
) -> Result<Result<Vec<Migration>, String>, DbErr> {
    let tables = query_strings(
        db,
        statement(db, [sqlite::TABLES, postgres::TABLES, mysql::TABLES]),
    )
    .await?;
    let known: Vec<_> = Migrator::migrations()
        .iter()
        .map(|migration| migration.name().to_owned())
        .collect();
    let has_migrations = tables.iter().any(|table| table == MIGRATION_TABLE);
    if !tables.is_empty() && !has_migrations {
        return Ok(Err("it holds the tables of another program".to_owned()));
    }
    let applied = if has_migrations {
        query_strings(db, "SELECT version FROM seaql_migrations ORDER BY version").await?
    } else {
        Vec::new()
    };
    // An interrupted first migration leaves tables of this service only, without a recorded migration.
    if applied.is_empty() && tables.iter().any(|table| !TABLES.contains(&&**table)) {
        return Ok(Err("it holds the tables of another program".to_owned()));
    }
    if let Some(newer) = applied
        .iter()
        .find(|name| !known.contains(name) && !is_additive(name))
    {
        return Ok(Err(format!(
            "it was written by a newer version of group-service (its schema has {newer})"
        )));
    }
    let mut migrations: Vec<_> = known
        .iter()
        .chain(applied.iter().filter(|name| !known.contains(name)))
        .map(|name| Migration {
            name: name.clone(),
            applied: applied.contains(name),
            known: known.contains(name),
        })
        .collect();
    migrations.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Ok(migrations))
}

/// Migrates the schema to this version, unless it is there already, or newer; the inner error says why that isn't
/// possible. `db` must have a single connection: the schema lock belongs to a session.
pub(super) async fn up(db: &DatabaseConnection) -> Result<Result<(), String>, DbErr> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match with_schema_lock(db, async || apply_migrations(db).await).await {
            // Galera's locks don't span nodes, so the same migration on another node can conflict.
            Err(error) if attempt < ATTEMPTS && db.get_database_backend() == DbBackend::MySql => {
                tracing::debug!(%error, attempt, "changing the schema is tried again");
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
            result => return result,
        }
    }
}

/// Reverts the last migration, with all data that it added; the inner error says why that isn't possible.
pub(super) async fn down(db: &DatabaseConnection) -> Result<Result<(), String>, DbErr> {
    with_schema_lock(db, async || {
        match status(db).await? {
            Ok(migrations) => {
                if let Some(newer) = migrations.iter().find(|migration| !migration.known) {
                    return Ok(Err(format!(
                        "only a newer version of group-service can take {} back",
                        newer.name
                    )));
                }
            }
            Err(reason) => return Ok(Err(reason)),
        }
        Migrator::down(db, Some(1)).await.map(Ok)
    })
    .await
}

async fn apply_migrations(db: &DatabaseConnection) -> Result<Result<(), String>, DbErr> {
    let migrations = match status(db).await? {
        Ok(migrations) => migrations,
        Err(reason) => return Ok(Err(reason)),
    };
    if migrations.iter().all(|migration| migration.applied) {
        return Ok(Ok(()));
    }
    if let Some(newer) = migrations.iter().find(|migration| !migration.known) {
        return Ok(Err(format!(
            "it was written by a newer version of group-service (its schema has {}), and not completely",
            newer.name
        )));
    }
    match Migrator::up(db, None).await {
        // A reason written by a migration for the operator.
        Err(DbErr::Migration(reason)) => Ok(Err(reason)),
        result => result.map(Ok),
    }
}

/// Runs `work` while holding the schema lock.
async fn with_schema_lock<T>(
    db: &DatabaseConnection,
    work: impl AsyncFnOnce() -> Result<T, DbErr>,
) -> Result<T, DbErr> {
    let [lock, unlock] = match db.get_database_backend() {
        DbBackend::Postgres => [postgres::LOCK_SCHEMA, postgres::UNLOCK_SCHEMA],
        DbBackend::MySql => [mysql::LOCK_SCHEMA, mysql::UNLOCK_SCHEMA],
        // For SQLite the directory lock that is taken at open already excludes others.
        _ => return work().await,
    };
    let locked = Statement::from_string(db.get_database_backend(), lock);
    let locked = db.query_one_raw(locked).await?;
    // On a timeout PostgreSQL returns an error instead.
    if db.get_database_backend() == DbBackend::MySql
        && locked.and_then(|row| row.try_get_by_index(0).ok()) != Some(1_i64)
    {
        let reason = "another instance has been changing the schema for a minute";
        return Err(DbErr::Custom(reason.to_owned()));
    }
    let result = work().await;
    // A lost connection releases the lock, too.
    let _ = db.execute_unprepared(unlock).await;
    result
}

fn statement(
    db: &DatabaseConnection,
    [sqlite, postgres, mysql]: [&'static str; 3],
) -> &'static str {
    match db.get_database_backend() {
        DbBackend::Postgres => postgres,
        DbBackend::MySql => mysql,
        _ => sqlite,
    }
}

pub(super) async fn query_strings(
    db: &DatabaseConnection,
    sql: &str,
) -> Result<Vec<String>, DbErr> {
    let rows = db
        .query_all_raw(Statement::from_string(db.get_database_backend(), sql))
        .await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}
