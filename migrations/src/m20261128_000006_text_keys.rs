//! Recomputes unique keys without default ignorable characters, and search texts without accents.
//!
//! Not additive: an older binary would go on writing the old keys, and names would no longer be unique.

use std::collections::HashMap;

use sea_orm_migration::{
    prelude::*,
    sea_orm::{QueryResult, prelude::Uuid},
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

/// Number of rows read at once.
const READ_BATCH: u64 = 1000;
/// Number of rows written by one statement.
const WRITE_BATCH: usize = 100;
/// Maximum number of reported collisions.
const MAX_REPORTED: usize = 10;

/// A table with unique names.
struct NamedTable {
    table: &'static str,
    name: &'static str,
    key: &'static str,
    /// Further columns that are searched.
    more: &'static [&'static str],
}

const NAMED_TABLES: [NamedTable; 3] = [
    NamedTable {
        table: "groups",
        name: "title",
        key: "title_key",
        more: &[],
    },
    NamedTable {
        table: "roles",
        name: "name",
        key: "name_key",
        more: &[],
    },
    NamedTable {
        table: "users",
        name: "username",
        key: "username_key",
        more: &["first_name", "last_name"],
    },
];

/// The functions that compute the keys.
struct KeyFunctions {
    unique_key: fn(&str) -> Vec<u8>,
    search_text: fn(&str) -> String,
}

const AFTER: KeyFunctions = KeyFunctions {
    unique_key: textkeys::unique_key,
    search_text: textkeys::search_text,
};

const BEFORE: KeyFunctions = KeyFunctions {
    unique_key: textkeys::compatibility_key,
    search_text: textkeys::compatibility_casefold,
};

struct Row {
    id: Uuid,
    name: String,
    /// The texts that are searched.
    texts: String,
    key: Vec<u8>,
    search_text: String,
}

impl NamedTable {
    /// The rows after `last`, in order of id.
    async fn read(
        &self,
        manager: &SchemaManager<'_>,
        last: Option<Uuid>,
    ) -> Result<Vec<Row>, DbErr> {
        let mut select = Query::select();
        select
            .columns(["id", self.key, "search_text", self.name].map(Alias::new))
            .columns(self.more.iter().copied().map(Alias::new))
            .from(Alias::new(self.table))
            .order_by("id", Order::Asc)
            .limit(READ_BATCH);
        if let Some(last) = last {
            select.and_where(Expr::col("id").gt(last));
        }
        let rows = manager.get_connection().query_all(&select).await?;
        rows.iter().map(|row| self.row(row)).collect()
    }

    fn row(&self, row: &QueryResult) -> Result<Row, DbErr> {
        let name: String = row.try_get("", self.name)?;
        let mut texts = name.clone();
        if !self.more.is_empty() {
            let more: Result<Vec<String>, _> =
                self.more.iter().map(|more| row.try_get("", more)).collect();
            texts = format!("{name}\n{}", more?.join(" "));
        }
        Ok(Row {
            id: row.try_get("", "id")?,
            name,
            texts,
            key: row.try_get("", self.key)?,
            search_text: row.try_get("", "search_text")?,
        })
    }

    /// Finds names whose new keys collide. Only names whose keys change are kept in memory, which are few: those with
    /// characters that are now ignored.
    async fn collisions(
        &self,
        manager: &SchemaManager<'_>,
        keys: &KeyFunctions,
    ) -> Result<Vec<String>, DbErr> {
        let mut collisions = Vec::new();
        let mut changed: HashMap<Vec<u8>, (Uuid, String)> = HashMap::new();
        let mut last = None;
        loop {
            let rows = self.read(manager, last).await?;
            let Some(row) = rows.last() else {
                return Ok(collisions);
            };
            last = Some(row.id);
            let mut new = Vec::new();
            for row in rows {
                let key = (keys.unique_key)(&row.name);
                if key == row.key {
                    continue;
                }
                if let Some((id, name)) = changed.get(&key) {
                    collisions.push(self.collision((*id, name), (row.id, &row.name)));
                    continue;
                }
                new.push(key.clone());
                changed.insert(key, (row.id, row.name));
            }
            if new.is_empty() {
                continue;
            }
            let mut select = Query::select();
            select
                .columns(["id", self.key, self.name].map(Alias::new))
                .from(Alias::new(self.table))
                .and_where(Expr::col(self.key).is_in(new));
            for row in manager.get_connection().query_all(&select).await? {
                let (id, name): (Uuid, String) =
                    (row.try_get("", "id")?, row.try_get("", self.name)?);
                let key: Vec<u8> = row.try_get("", self.key)?;
                if let Some((other, other_name)) = changed.get(&key) {
                    collisions.push(self.collision((id, &name), (*other, other_name)));
                }
            }
        }
    }

    fn collision(&self, one: (Uuid, &String), other: (Uuid, &String)) -> String {
        let [one, other] = [one, other].map(|(id, name)| format!("{name:?} ({id})"));
        format!("{} {one} and {other}", self.table)
    }

    async fn recompute(
        &self,
        manager: &SchemaManager<'_>,
        keys: &KeyFunctions,
    ) -> Result<(), DbErr> {
        let mut last = None;
        loop {
            let mut rows = self.read(manager, last).await?;
            let Some(row) = rows.last() else {
                return Ok(());
            };
            last = Some(row.id);
            rows.retain_mut(|row| {
                let key = (keys.unique_key)(&row.name);
                let search_text = (keys.search_text)(&row.texts);
                let changed = key != row.key || search_text != row.search_text;
                (row.key, row.search_text) = (key, search_text);
                changed
            });
            for rows in rows.chunks(WRITE_BATCH) {
                self.write(manager, rows).await?;
            }
        }
    }

    async fn write(&self, manager: &SchemaManager<'_>, rows: &[Row]) -> Result<(), DbErr> {
        let (mut key, mut search_text) = (CaseStatement::new(), CaseStatement::new());
        for row in rows {
            let of_row = || Expr::col("id").eq(row.id);
            key = key.case(of_row(), row.key.clone());
            search_text = search_text.case(of_row(), row.search_text.clone());
        }
        let mut update = Query::update();
        update
            .table(Alias::new(self.table))
            .value(Alias::new(self.key), key)
            .value("search_text", search_text)
            .and_where(Expr::col("id").is_in(rows.iter().map(|row| row.id)));
        manager.execute(update).await
    }
}

#[expect(
    elided_lifetimes_in_paths,
    reason = "under async_trait the trait's methods bind this lifetime early, which only the elided form does"
)]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    // Off by default on SQLite, MariaDB and MySQL, where a crash would leave some old and some new keys.
    fn use_transaction(&self) -> Option<bool> {
        Some(true)
    }

    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut collisions = Vec::new();
        for named in &NAMED_TABLES {
            collisions.extend(named.collisions(manager, &AFTER).await?);
        }
        if !collisions.is_empty() {
            let more = collisions.len().saturating_sub(MAX_REPORTED);
            collisions.truncate(MAX_REPORTED);
            if more > 0 {
                collisions.push(format!("{more} more"));
            }
            return Err(DbErr::Migration(format!(
                "from this version on these names are the same, because invisible characters no longer tell names \
                 apart: {}; nothing was changed: rename or delete one of each with the version before, and start \
                 again",
                collisions.join("; ")
            )));
        }
        for named in &NAMED_TABLES {
            named.recompute(manager, &AFTER).await?;
        }
        Ok(())
    }

    // Names whose new keys differ also have different old keys, so there are no collisions.
    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for named in &NAMED_TABLES {
            named.recompute(manager, &BEFORE).await?;
        }
        Ok(())
    }
}
