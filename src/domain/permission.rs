//! Permissions of callers.

use std::fmt::{self, Display};

use sea_orm::DeriveValueType;

/// A permission of a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Read groups, roles and users.
    Read = 1,
    /// Check access.
    Check = 2,
    /// Change groups, roles and users.
    Write = 4,
    /// Read changes and who made them.
    Audit = 8,
    /// Record changes under another actor than the caller.
    ActAs = 16,
}

impl Permission {
    const ALL: [Self; 5] = [
        Self::Read,
        Self::Check,
        Self::Write,
        Self::Audit,
        Self::ActAs,
    ];

    /// Its name in settings and error details.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Check => "check",
            Self::Write => "write",
            Self::Audit => "audit",
            Self::ActAs => "act-as",
        }
    }
}

/// A set of permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, DeriveValueType)]
pub struct Permissions(i16);

impl Permissions {
    /// The empty set.
    pub const NONE: Self = Self(0);

    /// The union of both sets.
    #[must_use]
    pub fn union(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Parses names separated by commas; `all` stands for all but `act-as`.
    ///
    /// # Errors
    /// What is wrong with the text, for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut bits = 0;
        for name in text.split(',').map(str::trim) {
            let named = Permission::ALL
                .into_iter()
                .filter(|permission| match name {
                    "all" => *permission != Permission::ActAs,
                    _ => permission.name() == name,
                })
                .map(|permission| permission as i16)
                .sum::<i16>();
            if named == 0 {
                return Err(format!(
                    "`{name}` is no permission: there are read, check, write, audit, act-as, and all for the first four"
                ));
            }
            bits |= named;
        }
        Ok(Self(bits))
    }

    /// Whether the set contains this permission.
    #[must_use]
    pub fn allow(self, permission: Permission) -> bool {
        self.0 & permission as i16 != 0
    }
}

impl Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Permission::ALL.into_iter().filter(|one| self.allow(*one));
        let names: Vec<_> = names.map(Permission::name).collect();
        f.pad(&names.join(","))
    }
}
