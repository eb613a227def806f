//! What is lost with a deletion.

use super::{Note, Timestamp, Words};
use crate::domain::{UserStatus, Version};

/// The last state of what was deleted, but for its name, and for what other changes of the deletion tell: the roles and
/// users of a group, the rules of a role, the groups of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// The version behind its etag.
    pub version: Version,
    /// What only things of its kind have.
    pub details: DeletedDetails,
}

/// What only things of one kind have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletedDetails {
    /// A group has nothing else.
    Group,
    /// A role.
    Role {
        /// What it was for.
        description: Note,
    },
    /// A user.
    User {
        /// The first name.
        first_name: Words,
        /// The last name.
        last_name: Words,
        /// Whether the user was blocked.
        status: UserStatus,
    },
}
