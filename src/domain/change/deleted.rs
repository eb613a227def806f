//! Last states of deleted resources.

use super::{Description, PersonName, Timestamp};
use crate::domain::{UserStatus, Version};

/// The last state of a deleted resource, apart from its name and from what other changes of the deletion record: the
/// roles and users of a group, the rules of a role, the groups of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeletedResource {
    /// The creation time.
    pub created_at: Timestamp,
    /// The time of the last change.
    pub updated_at: Timestamp,
    /// The version that its etag encoded.
    pub version: Version,
    /// State that is specific to its kind.
    pub details: DeletedResourceDetails,
}

/// State that is specific to a kind of resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletedResourceDetails {
    /// A group, without further state.
    Group,
    /// A role.
    Role {
        /// The description.
        description: Description,
    },
    /// A user.
    User {
        /// The first name.
        first_name: PersonName,
        /// The last name.
        last_name: PersonName,
        /// Whether the user was blocked.
        status: UserStatus,
    },
}
