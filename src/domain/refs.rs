//! Things as others show them.

use super::{GroupId, Name, RoleId};

/// A role as a group shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoleRef {
    /// The id.
    pub id: RoleId,
    /// The name.
    pub name: Name,
}

/// A group as a user's role shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupRef {
    /// The id.
    pub id: GroupId,
    /// The title.
    pub title: Name,
}
