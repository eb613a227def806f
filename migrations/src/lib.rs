//! The schema's history: one file a migration, applied in order when the server starts.
//!
//! A migration whose name ends with `_additive` leaves all that older binaries work with as it is: they keep
//! serving beside it. Every other one that a binary doesn't know makes it refuse the database.
//!
//! A migration that has been released is never changed; it imports nothing of the service, so that it
//! does tomorrow what it did when it was written. One that recomputes keys takes them from `textkeys`, as the service
//! does: it brings rows to the keys of the binary that runs it.

pub use sea_orm_migration::MigratorTrait;
use sea_orm_migration::prelude::*;

mod ddl;
mod m20261123_000001_groups;
mod m20261123_000002_changes;
mod m20261124_000003_large_directories;
mod m20261125_000004_tokens_additive;
mod m20261128_000005_last_states_additive;
mod m20261128_000006_text_keys;

/// Brings a database to this version's schema, and back.
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

/// Whether a binary that doesn't know the migration of this name can work with what it has made.
#[must_use]
pub fn is_additive(name: &str) -> bool {
    name.ends_with("_additive")
}
