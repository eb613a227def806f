//! Whether a user is active or blocked.

use sea_orm::{DeriveActiveEnum, EnumIter};

/// Whether a user is active or blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
pub enum UserStatus {
    /// The rules of the user's roles apply.
    Active = 1,
    /// All access is denied, whatever the rules say.
    Blocked = 2,
}
