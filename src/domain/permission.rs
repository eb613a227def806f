//! What callers may do.

use std::fmt::{self, Display};

use sea_orm::DeriveValueType;

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Look at groups, roles and users.
    Read = 1,
    /// Ask who may do what.
    Check = 2,
    /// Change groups, roles and users.
    Write = 4,
    /// Look at what was changed, and by whom.
    Audit = 8,
    /// Name another actor of a change than the caller.
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

    /// Its name, as it is given and told.
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

/// Some of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, DeriveValueType)]
pub struct Permissions(i16);

impl Permissions {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// These and those.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// Reads names, separated by commas; `all` are those that RPCs need.
    ///
    /// # Errors
    /// What is wrong with them, for the operator.
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

    /// Whether this one is among them.
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
