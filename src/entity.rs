//! The SeaORM entities of the tables. Columns are domain newtypes, so a row holds only valid domain values.
#![expect(
    missing_docs,
    reason = "SeaORM's derives generate items without documentation"
)]

pub mod change;
pub mod directory;
pub mod group;
pub mod group_role;
pub mod group_user;
pub mod request;
pub mod role;
pub mod role_rule;
pub mod token;
pub mod user;
