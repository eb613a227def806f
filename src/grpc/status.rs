//! Errors as gRPC statuses: one table from [`Error`] to a canonical code with `google.rpc` details.

mod invalid;
mod not_found;

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use self::{invalid::invalid_request, not_found::not_found};
use super::ERROR_DOMAIN;
use crate::error::{Error, UniqueField};

/// The `RetryInfo` delay of temporary errors.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// Maximum bytes of a list in the error details. Details are sent in a header, in base64, and clients accept at least 8
/// KiB of headers. The error says how many entries a truncated list has in all.
const MAX_LIST_BYTES: usize = 5000;

/// Built once, so that an overloaded server does as little as possible for each call that it rejects.
static OVERLOADED: LazyLock<Status> =
    LazyLock::new(|| status(&Error::Overloaded("of no interest".into())));

fn status(error: &Error) -> Status {
    let (code, message, details) = to_parts(error);
    Status::with_error_details(code, message, details)
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let mut status = match &error {
            Error::Overloaded(_) => OVERLOADED.clone(),
            other => status(other),
        };
        if std::error::Error::source(&error).is_some() {
            // For the log only: the source is never sent.
            status.set_source(Arc::new(error));
        }
        status
    }
}

/// The status of a call that has exceeded its deadline.
pub(super) fn deadline_exceeded() -> Status {
    let message = "the caller's deadline has passed; a write may have been carried out";
    Status::with_error_details(
        Code::DeadlineExceeded,
        message,
        error_info("DEADLINE_EXCEEDED", []),
    )
}

/// Replaces tonic's own errors, which have no details, by statuses with documented codes and details; `None` for all
/// others.
pub(super) fn translate_framework_status(status: &Status) -> Option<Status> {
    if !status.details().is_empty() {
        return None;
    }
    let (code, reason, message) = match status.code() {
        // For the log only: the request body ended early because its connection failed.
        Code::Unknown if is_connection_error(status) => (
            Code::Cancelled,
            "CANCELLED",
            "client cancelled the call in the middle of its request",
        ),
        // The message isn't valid protobuf, or not of the RPC's request type.
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
    let details = error_info(reason, []);
    Some(Status::with_error_details(code, message, details))
}

/// Whether the error was caused by the connection.
fn is_connection_error(status: &Status) -> bool {
    let first = std::error::Error::source(status);
    std::iter::successors(first, |error| error.source()).any(|error| error.is::<hyper::Error>())
}

fn to_parts(error: &Error) -> (Code, String, ErrorDetails) {
    match error {
        Error::Invalid(violations) => invalid_request(violations),
        Error::NotFound(missing) => not_found(missing),
        Error::AlreadyExists(unique) => {
            let (reason, name, resource) = match unique {
                UniqueField::GroupTitle => ("GROUP_TITLE_TAKEN", "title", "group"),
                UniqueField::RoleName => ("ROLE_NAME_TAKEN", "name", "role"),
                UniqueField::Username => ("USERNAME_TAKEN", "username", "user"),
            };
            (
                Code::AlreadyExists,
                format!(
                    "another {resource} has this {name}, perhaps in other letters of the same meaning"
                ),
                error_info(reason, [("field", name.to_owned())]),
            )
        }
        Error::GroupNeedsRole => {
            let mut details = error_info("GROUP_NEEDS_ROLE", []);
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
            let mut details = error_info("ROLE_IN_USE", metadata);
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
            error_info("ETAG_MISMATCH", []),
        ),
        Error::RevisionUnknown { present } => (
            Code::OutOfRange,
            format!(
                "the directory has never given this revision (its last one is {}), or it has another history",
                present.number()
            ),
            error_info(
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
            error_info(
                "REVISION_COMPACTED",
                [("oldest_revision", oldest.number().to_string())],
            ),
        ),
        Error::Conflict(_) => (
            Code::Aborted,
            "concurrent writes got in the way: try again".to_owned(),
            with_retry_info(error_info("CONFLICT", [])),
        ),
        Error::Unauthenticated => (
            Code::Unauthenticated,
            "credentials are missing or not valid: send `authorization: Bearer TOKEN`".to_owned(),
            error_info("UNAUTHENTICATED", []),
        ),
        Error::PermissionDenied(permission) => (
            Code::PermissionDenied,
            format!("this needs the permission `{}`", permission.name()),
            error_info(
                "PERMISSION_DENIED",
                [("permission", permission.name().to_owned())],
            ),
        ),
        Error::ShuttingDown => (
            Code::Unavailable,
            "the server is stopping: connect to another one, or again".to_owned(),
            with_retry_info(error_info("STOPPING", [])),
        ),
        Error::Overloaded(_) => (
            Code::ResourceExhausted,
            "too many calls are waiting: try again later".to_owned(),
            with_retry_info(error_info("OVERLOADED", [])),
        ),
        Error::RateLimited(wait) => {
            let mut details = error_info("RATE_LIMITED", []);
            details.set_retry_info(Some(*wait));
            (
                Code::ResourceExhausted,
                "more calls a second than this caller may make: try again later".to_owned(),
                details,
            )
        }
        Error::Unavailable(_) => (
            Code::Unavailable,
            "the database is temporarily unavailable: retry".to_owned(),
            with_retry_info(error_info("DATABASE_UNAVAILABLE", [])),
        ),
        Error::CommitUnknown(_) => (
            Code::Unavailable,
            "the database went away at the commit: the write may have been carried out; \
             send it again with the same request_id, or look"
                .to_owned(),
            with_retry_info(error_info(
                "DATABASE_UNAVAILABLE",
                [("outcome", "unknown".to_owned())],
            )),
        ),
        Error::Internal(_) => (
            Code::Internal,
            "internal error: the server's log has the cause under this call's trace id".to_owned(),
            error_info("INTERNAL", []),
        ),
    }
}

fn error_info<'a>(
    reason: &str,
    metadata: impl IntoIterator<Item = (&'a str, String)>,
) -> ErrorDetails {
    let metadata: HashMap<_, _> = metadata
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .collect();
    ErrorDetails::with_error_info(reason, ERROR_DOMAIN, metadata)
}

fn with_retry_info(mut details: ErrorDetails) -> ErrorDetails {
    details.set_retry_info(Some(RETRY_DELAY));
    details
}
