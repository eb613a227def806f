//! References to resources, with their names.

use super::{GroupId, Name, RoleId};

/// A role as shown in a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RoleRef {
    /// The id.
    pub id: RoleId,
    /// The name.
    pub name: Name,
}

/// A group as shown in a user's role.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupRef {
    /// The id.
    pub id: GroupId,
    /// The title.
    pub title: Name,
}
