//! What can go wrong, apart from how it is told (`grpc::status`) and from any driver (`store::classify`).

use std::error::Error as StdError;

use crate::domain::{
    FieldViolation, GroupId, Name, Permission, Revision, RoleId, UserId, Violations,
};

/// The result of a command or query.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An internal cause: for the log, never for the caller.
pub type Cause = Box<dyn StdError + Send + Sync>;

/// Why a command or query failed.
#[derive(Debug)]
pub enum Error {
    /// The request is not valid: all that is wrong with it.
    Invalid(Vec<FieldViolation>),
    /// Something that the request names isn't there.
    NotFound(Missing),
    /// A name is taken.
    Taken(Unique),
    /// The group would end without a role.
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
    /// The resource has changed since the caller saw it.
    EtagMismatch,
    /// The directory has never given this revision: it is of the future, or of another history.
    RevisionUnknown {
        /// The last revision that it gave.
        present: Revision,
    },
    /// The changes of this revision are no longer kept.
    RevisionCompacted {
        /// The oldest revision whose changes are.
        oldest: Revision,
    },
    /// The write lost against others until its retries were used up.
    Conflict(Cause),
    /// The caller isn't known: without a word on why.
    Unauthenticated,
    /// The caller hasn't got the permission that this needs.
    NotPermitted(Permission),
    /// The server is about to end.
    Stopping,
    /// More writes are waiting than can be carried out in time.
    Overloaded(Cause),
    /// The caller calls more often than it may: it may again after this time.
    TooOften(std::time::Duration),
    /// The database can't be reached, or can't write, for now.
    Unavailable(Cause),
    /// The database went away at the commit: the write may have been carried out, or not.
    Uncertain(Cause),
    /// A defect of this service.
    Internal(Cause),
}

/// What isn't there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The group.
    Group(GroupId),
    /// Every role of the request that isn't there.
    Roles(Vec<RoleId>),
    /// Every user of the request who isn't there.
    Users(Vec<UserId>),
    /// Users who are not in the group.
    UsersInGroup(GroupId, Vec<UserId>),
}

/// What exists only once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unique {
    /// A group's title.
    GroupTitle,
    /// A role's name.
    RoleName,
    /// A user's username.
    Username,
}

impl Error {
    /// The same for another whom it concerns, with its cause in words.
    #[must_use]
    pub fn again(&self) -> Self {
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
            Self::Uncertain(cause) => Self::Uncertain(words(cause)),
            Self::Internal(cause) => Self::Internal(words(cause)),
            Self::Stopping => Self::Stopping,
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
            Self::Taken(_) => "the name is taken",
            Self::GroupNeedsRole => "a group needs at least one role",
            Self::RoleInUse { .. } => "groups have the role",
            Self::EtagMismatch => "the etag doesn't match",
            Self::RevisionUnknown { .. } => "the revision was never given",
            Self::RevisionCompacted { .. } => "the revision is no longer kept",
            Self::Conflict(_) => "concurrent writes got in each other's way",
            Self::Unauthenticated => "the caller isn't known",
            Self::NotPermitted(_) => "the caller lacks a permission",
            Self::Stopping => "the server is stopping",
            Self::Overloaded(_) => "too many calls are waiting",
            Self::TooOften(_) => "the caller calls too often",
            Self::Unavailable(_) => "the database is unavailable",
            Self::Uncertain(_) => "the database went away at the commit",
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
            | Self::Uncertain(cause)
            | Self::Internal(cause) => Some(cause.as_ref()),
            _ => None,
        }
    }
}
