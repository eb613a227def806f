//! Whether a user may do anything at all.

use sea_orm::{DeriveActiveEnum, EnumIter};

/// Whether a user may do anything at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
pub enum UserStatus {
    /// The user may do what the roles of the user's groups allow.
    Active = 1,
    /// The user may do nothing, whatever the roles say.
    Blocked = 2,
}
