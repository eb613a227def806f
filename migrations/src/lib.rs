//! The schema's history: one file per migration, applied in order when the server starts.
//!
//! A migration whose name ends with `_additive` changes nothing that older binaries depend on: they keep serving. A
//! binary refuses a database with any other migration that it doesn't know.
//!
//! A released migration is never changed; it imports nothing from the service, so that its behaviour stays the same.
//! One that recomputes keys takes them from `textkeys`, as the service does: it brings rows to the keys of the binary
//! that runs it.

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::prelude::*;

mod ddl;
mod m20261123_000001_groups;
mod m20261123_000002_changes;
mod m20261124_000003_large_directories;
mod m20261125_000004_tokens_additive;
mod m20261128_000005_last_states_additive;
mod m20261128_000006_text_keys;

/// Applies and reverts the migrations.
#[derive(Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_groups::Migration),
            Box::new(m20261123_000002_changes::Migration),
            Box::new(m20261124_000003_large_directories::Migration),
            Box::new(m20261125_000004_tokens_additive::Migration),
            Box::new(m20261128_000005_last_states_additive::Migration),
            Box::new(m20261128_000006_text_keys::Migration),
        ]
    }
}

/// Whether a binary that doesn't know this migration can work with its schema.
#[must_use]
pub fn is_additive(name: &str) -> bool {
    name.ends_with("_additive")
}
