//! Kinds of changes and their numbers.

use sea_orm::{ActiveEnum, DeriveActiveEnum, DeriveValueType, EnumIter};

/// The kind of a change. The numbers are used on the wire and in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
#[expect(missing_docs, reason = "the protos document every kind: ChangeKind")]
pub enum ChangeKind {
    GroupCreated = 1,
    GroupRenamed = 2,
    GroupDeleted = 3,
    RoleAssigned = 4,
    RoleRemoved = 5,
    UserAssigned = 6,
    UserUnassigned = 7,
    RoleCreated = 8,
    RoleRenamed = 9,
    RoleDescribed = 10,
    RoleDeleted = 11,
    RuleAdded = 12,
    RuleRemoved = 13,
    UserCreated = 14,
    UserRenamed = 15,
    UserNamed = 16,
    UserBlocked = 17,
    UserUnblocked = 18,
    UserDeleted = 19,
}

impl ChangeKind {
    /// The kind with this number, if there is one.
    #[must_use]
    pub fn from_number(number: i32) -> Option<Self> {
        let number = i16::try_from(number).ok()?;
        Self::try_from_value(&number).ok()
    }

    /// The number of this kind.
    #[must_use]
    pub fn number(self) -> i32 {
        i32::from(self.into_value())
    }
}

/// The number of a kind as it is stored: newer versions may have kinds that this one doesn't know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, DeriveValueType)]
pub struct KindNumber(i16);

impl KindNumber {
    /// The kind; `None` if this version doesn't know it.
    #[must_use]
    pub fn known(self) -> Option<ChangeKind> {
        ChangeKind::try_from_value(&self.0).ok()
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> i32 {
        i32::from(self.0)
    }
}

impl From<ChangeKind> for KindNumber {
    fn from(kind: ChangeKind) -> Self {
        Self(kind.into_value())
    }
}
