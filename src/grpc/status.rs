//! How errors are told: one table from [`Error`] to a canonical code with `google.rpc` details.

mod invalid;
mod missing;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use self::{invalid::invalid, missing::not_found};
use super::ERROR_DOMAIN;
use crate::error::{Error, Unique};

/// When a caller may try again what failed for want of the database.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Details travel in a header, and clients take 8 KiB of headers at least: lists in them are cut before
/// that, in base64, and say how many entries are missing.
const MAX_LIST_BYTES: usize = 5000;

/// Made once: whoever has too much to do shouldn't have more for each call that it refuses.
static OVERLOADED: LazyLock<Status> =
    LazyLock::new(|| status(&Error::Overloaded("of no interest".into())));

fn status(error: &Error) -> Status {
    let (code, message, details) = tell(error);
    Status::with_error_details(code, message, details)
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut status = match &error {
            Error::Overloaded(_) => OVERLOADED.clone(),
            other => status(other),
        };
        if std::error::Error::source(&error).is_some() {
            // For the log: the source is never sent.
            status.set_source(Arc::new(error));
        }
        status
    }
}

/// The caller's time is over.
pub(super) fn deadline_exceeded() -> Status {
    let message = "the caller's deadline has passed; a write may have been carried out";
    Status::with_error_details(
        Code::DeadlineExceeded,
        message,
        info("DEADLINE_EXCEEDED", []),
    )
}

/// Gives the framework's own refusals, which have no details, a code and details that callers know.
pub(super) fn refine(status: &Status) -> Option<Status> {
    if !status.details().is_empty() {
        return None;
    }
    let (code, reason, message) = match status.code() {
        // Nobody reads this but the log: a body that ends before its end does so with its connection.
        Code::Unknown if is_of_connection(status) => (
            Code::Cancelled,
            "CANCELLED",
            "the caller hung up in the middle of its request",
        ),
        // A message that is no protobuf, or not of the RPC's type.
        Code::Internal => (
            Code::InvalidArgument,
            "INVALID_REQUEST",
            "the request can't be decoded: it must be a protobuf message of the RPC's request type",
        ),
        Code::OutOfRange => (
            Code::ResourceExhausted,
            "MESSAGE_TOO_LARGE",
            "the request is larger than 4 MiB",
        ),
        Code::Unimplemented if status.message().is_empty() => (
            Code::Unimplemented,
            "UNIMPLEMENTED",
            "there is no such RPC, or it can't be called this way; list them with: grpcurl ADDRESS list",
        ),
        _ => return None,
    };
    let details = info(reason, []);
    Some(Status::with_error_details(code, message, details))
}

/// Whether the cause lies in the connection.
fn is_of_connection(status: &Status) -> bool {
    let first = std::error::Error::source(status);
    std::iter::successors(first, |error| error.source()).any(|error| error.is::<hyper::Error>())
}

fn tell(error: &Error) -> (Code, String, ErrorDetails) {
    match error {
        Error::Invalid(violations) => invalid(violations),
        Error::NotFound(missing) => not_found(missing),
        Error::Taken(unique) => {
            let (reason, name, resource) = match unique {
                Unique::GroupTitle => ("GROUP_TITLE_TAKEN", "title", "group"),
                Unique::RoleName => ("ROLE_NAME_TAKEN", "name", "role"),
                Unique::Username => ("USERNAME_TAKEN", "username", "user"),
            };
            (
                Code::AlreadyExists,
                format!(
                    "another {resource} has this {name}, perhaps in other letters of the same meaning"
                ),
                info(reason, [("field", name.to_owned())]),
            )
        }
        Error::GroupNeedsRole => {
            let mut details = info("GROUP_NEEDS_ROLE", []);
            details.add_precondition_failure_violation(
                "GROUP_NEEDS_ROLE",
                "remove_role_ids",
                "these are all the roles that the group has",
            );
            (
                Code::FailedPrecondition,
                "a group needs at least one role: add another one in the same update".to_owned(),
                details,
            )
        }
        Error::RoleInUse {
            role,
            group_count,
            groups,
        } => {
            let metadata = [
                ("role_id", role.to_string()),
                ("group_count", group_count.to_string()),
            ];
            let mut details = info("ROLE_IN_USE", metadata);
            for (id, title) in groups {
                let title: String = title.as_str().chars().take(60).collect();
                details.add_precondition_failure_violation("ROLE_IN_USE", id.to_string(), title);
            }
            (
                Code::FailedPrecondition,
                format!("{group_count} group(s) have the role: remove it from them first"),
                details,
            )
        }
        Error::EtagMismatch => (
            Code::Aborted,
            "it has changed since this etag was given: get it again and repeat the change"
                .to_owned(),
            info("ETAG_MISMATCH", []),
        ),
        Error::RevisionUnknown { present } => (
            Code::OutOfRange,
            format!(
                "the directory has never given this revision (its last one is {}), or it has another history",
                present.number()
            ),
            info(
                "REVISION_UNKNOWN",
                [("revision", present.number().to_string())],
            ),
        ),
        Error::RevisionCompacted { oldest } => (
            Code::OutOfRange,
            format!(
                "changes are kept from revision {} on: begin there",
                oldest.number()
            ),
            info(
                "REVISION_COMPACTED",
                [("oldest_revision", oldest.number().to_string())],
            ),
        ),
        Error::Conflict(_) => (
            Code::Aborted,
            "concurrent writes got in the way: try again".to_owned(),
            retry(info("CONFLICT", [])),
        ),
        Error::Unauthenticated => (
            Code::Unauthenticated,
            "credentials are missing or not valid: send `authorization: Bearer TOKEN`".to_owned(),
            info("UNAUTHENTICATED", []),
        ),
        Error::NotPermitted(permission) => (
            Code::PermissionDenied,
            format!("this needs the permission `{}`", permission.name()),
            info(
                "PERMISSION_DENIED",
                [("permission", permission.name().to_owned())],
            ),
        ),
        Error::Stopping => (
            Code::Unavailable,
            "the server is stopping: connect to another one, or again".to_owned(),
            retry(info("STOPPING", [])),
        ),
        Error::Overloaded(_) => (
            Code::ResourceExhausted,
            "too many calls are waiting: try again later".to_owned(),
            retry(info("OVERLOADED", [])),
        ),
        Error::TooOften(wait) => {
            let mut details = info("RATE_LIMITED", []);
            details.set_retry_info(Some(*wait));
            (
                Code::ResourceExhausted,
                "more calls a second than this caller may make: try again later".to_owned(),
                details,
            )
        }
        Error::Unavailable(_) => (
            Code::Unavailable,
            "the database is unavailable for now: try again".to_owned(),
            retry(info("DATABASE_UNAVAILABLE", [])),
        ),
        Error::Uncertain(_) => (
            Code::Unavailable,
            "the database went away at the commit: the write may have been carried out; \
             send it again with the same request_id, or look"
                .to_owned(),
            retry(info(
                "DATABASE_UNAVAILABLE",
                [("outcome", "unknown".to_owned())],
            )),
        ),
        Error::Internal(_) => (
            Code::Internal,
            "internal error: the server's log has the cause under this call's trace id".to_owned(),
            info("INTERNAL", []),
        ),
    }
}

fn info<'a>(reason: &str, metadata: impl IntoIterator<Item = (&'a str, String)>) -> ErrorDetails {
    let metadata: HashMap<_, _> = metadata
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    ErrorDetails::with_error_info(reason, ERROR_DOMAIN, metadata)
}

fn retry(mut details: ErrorDetails) -> ErrorDetails {
    details.set_retry_info(Some(RETRY_DELAY));
    details
}
