//! The tables. Columns are domain newtypes, so a row is a value of the domain already.
#![expect(
    missing_docs,
    reason = "SeaORM's derives generate items without documentation"
)]

pub mod group;
pub mod group_role;
pub mod group_user;
pub mod role;
pub mod user;
