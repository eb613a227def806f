//! What isn't there.

use std::fmt::Display;

use tonic::Code;
use tonic_types::ErrorDetails;

use super::{MAX_LIST_BYTES, info};
use crate::{domain::Id, error::Missing};

pub(super) fn not_found(missing: &Missing) -> (Code, String, ErrorDetails) {
    let (reason, kind, message, metadata) = match missing {
        Missing::Group(id) => (
            "GROUP_NOT_FOUND",
            "groups.v1.Group",
            "there is no such group".to_owned(),
            vec![("group_id", id.to_string())],
        ),
        Missing::Roles(ids) => (
            "ROLE_NOT_FOUND",
            "groups.v1.Role",
            absent("role(s)", ids),
            vec![("role_ids", list(ids)), ("count", ids.len().to_string())],
        ),
        Missing::Users(ids) => (
            "USER_NOT_FOUND",
            "groups.v1.User",
            absent("user(s)", ids),
            vec![("user_ids", list(ids)), ("count", ids.len().to_string())],
        ),
        Missing::UsersInGroup(group_id, ids) => (
            "USER_NOT_IN_GROUP",
            "groups.v1.User",
            "the user is not in the group".to_owned(),
            vec![("group_id", group_id.to_string()), ("user_ids", list(ids))],
        ),
    };
    let named = match missing {
        Missing::Group(id) => id.to_string(),
        Missing::Roles(ids) => ids.first().map(ToString::to_string).unwrap_or_default(),
        Missing::Users(ids) | Missing::UsersInGroup(_, ids) => {
            ids.first().map(ToString::to_string).unwrap_or_default()
        }
    };
    let mut details = info(reason, metadata);
    details.set_resource_info(kind, named, "", message.as_str());
    (Code::NotFound, message, details)
}

/// How many ids go into a header, with a comma each.
const MAX_IDS: usize = MAX_LIST_BYTES / 37;

/// How many are missing, and how many of them are listed if that isn't all.
fn absent<T>(kind: &str, ids: &[T]) -> String {
    let count = ids.len();
    let listed = if count > MAX_IDS {
        format!(": the details list {MAX_IDS} of them")
    } else {
        String::new()
    };
    format!("{count} {kind} that the request names do not exist{listed}")
}

/// Ids, separated by commas; as many as go into a header.
fn list<T: Id + Display>(ids: &[T]) -> String {
    let ids = ids.iter().take(MAX_IDS).map(ToString::to_string);
    ids.collect::<Vec<_>>().join(",")
}
