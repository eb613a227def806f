//! Errors, independent of their gRPC status (`grpc::status`) and of database drivers (`store::errors`).

use std::error::Error as StdError;

use crate::domain::{
    FieldViolation, GroupId, Name, Permission, Revision, RoleId, UserId, Violations,
};

/// The result of a command or query.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An internal cause: logged, never sent to the caller.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Why a command or query failed.
#[derive(Debug)]
pub enum Error {
    /// The request is invalid: all its violations.
    Invalid(Vec<FieldViolation>),
    /// A resource named in the request doesn't exist.
    NotFound(MissingResource),
    /// A name is taken.
    AlreadyExists(UniqueField),
    /// The group would have no role left.
    GroupNeedsRole,
    /// The role can't be deleted: groups have it.
    RoleInUse {
        /// The role.
        role: RoleId,
        /// How many groups have it.
        group_count: i64,
        /// The first ten of them by title.
        groups: Vec<(GroupId, Name)>,
    },
    /// The resource has changed since the caller read it.
    EtagMismatch,
    /// The revision was never committed: it is in the future, or from another history.
    RevisionUnknown {
        /// The current revision.
        present: Revision,
    },
    /// The changes of this revision are no longer retained.
    RevisionCompacted {
        /// The oldest revision whose changes are retained.
        oldest: Revision,
    },
    /// The transaction still conflicted with others when its retries were exhausted.
    Conflict(Cause),
    /// The caller isn't authenticated. The reason isn't disclosed.
    Unauthenticated,
    /// The caller lacks this permission.
    PermissionDenied(Permission),
    /// The server is shutting down.
    ShuttingDown,
    /// Too many calls are waiting, or a limit is reached.
    Overloaded(Cause),
    /// The caller exceeds its rate limit, and may retry after this time.
    RateLimited(std::time::Duration),
    /// The database can't be reached, or can't write, for now.
    Unavailable(Cause),
    /// The database became unreachable during the commit: the write may have taken effect or not.
    CommitUnknown(Cause),
    /// A defect of this service.
    Internal(Cause),
}

/// A resource that doesn't exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MissingResource {
    /// The group.
    Group(GroupId),
    /// All roles in the request that don't exist.
    Roles(Vec<RoleId>),
    /// All users in the request that don't exist.
    Users(Vec<UserId>),
    /// Users who are not in the group.
    UsersInGroup(GroupId, Vec<UserId>),
}

/// A field whose values are unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UniqueField {
    /// A group's title.
    GroupTitle,
    /// A role's name.
    RoleName,
    /// A user's username.
    Username,
}

impl Error {
    /// A copy of the error for another call of the same batch, with its cause as text.
    #[must_use]
    pub fn clone_with_text_cause(&self) -> Self {
        let words = |cause: &Cause| {
            let mut words = cause.to_string();
            let mut source = cause.source();
            while let Some(error) = source {
                words = format!("{words}: {error}");
                source = error.source();
            }
            Cause::from(words)
        };
        match self {
            Self::Conflict(cause) => Self::Conflict(words(cause)),
            Self::Overloaded(cause) => Self::Overloaded(words(cause)),
            Self::Unavailable(cause) => Self::Unavailable(words(cause)),
            Self::CommitUnknown(cause) => Self::CommitUnknown(words(cause)),
            Self::Internal(cause) => Self::Internal(words(cause)),
            Self::ShuttingDown => Self::ShuttingDown,
            other => Self::Internal(other.to_string().into()),
        }
    }
}

impl From<Violations> for Error {
    fn from(violations: Violations) -> Self {
        Self::Invalid(violations.into_vec())
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Invalid(_) => "the request is not valid",
            Self::NotFound(_) => "not found",
            Self::AlreadyExists(_) => "the name is taken",
            Self::GroupNeedsRole => "a group needs at least one role",
            Self::RoleInUse { .. } => "groups have the role",
            Self::EtagMismatch => "the etag doesn't match",
            Self::RevisionUnknown { .. } => "the revision was never given",
            Self::RevisionCompacted { .. } => "the revision is no longer kept",
            Self::Conflict(_) => "concurrent writes got in each other's way",
            Self::Unauthenticated => "the caller isn't known",
            Self::PermissionDenied(_) => "the caller lacks a permission",
            Self::ShuttingDown => "the server is stopping",
            Self::Overloaded(_) => "too many calls are waiting",
            Self::RateLimited(_) => "the caller calls too often",
            Self::Unavailable(_) => "the database is unavailable",
            Self::CommitUnknown(_) => "the database went away at the commit",
            Self::Internal(_) => "internal error",
        })
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Conflict(cause)
            | Self::Overloaded(cause)
            | Self::Unavailable(cause)
            | Self::CommitUnknown(cause)
            | Self::Internal(cause) => Some(cause.as_ref()),
            _ => None,
        }
    }
}
