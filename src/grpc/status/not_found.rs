//! The status of a request that names missing resources.

use std::fmt::Display;

use tonic::Code;
use tonic_types::ErrorDetails;

use super::{MAX_LIST_BYTES, error_info};
use crate::{domain::Id, error::MissingResource};

pub(super) fn not_found(missing: &MissingResource) -> (Code, String, ErrorDetails) {
    let (reason, kind, message, metadata) = match missing {
        MissingResource::Group(id) => (
            "GROUP_NOT_FOUND",
            "groups.v1.Group",
            "there is no such group".to_owned(),
            vec![("group_id", id.to_string())],
        ),
        MissingResource::Roles(ids) => (
            "ROLE_NOT_FOUND",
            "groups.v1.Role",
            missing_message("role(s)", ids),
            vec![
                ("role_ids", join_ids(ids)),
                ("count", ids.len().to_string()),
            ],
        ),
        MissingResource::Users(ids) => (
            "USER_NOT_FOUND",
            "groups.v1.User",
            missing_message("user(s)", ids),
            vec![
                ("user_ids", join_ids(ids)),
                ("count", ids.len().to_string()),
            ],
        ),
        MissingResource::UsersInGroup(group_id, ids) => (
            "USER_NOT_IN_GROUP",
            "groups.v1.User",
            "the user is not in the group".to_owned(),
            vec![
                ("group_id", group_id.to_string()),
                ("user_ids", join_ids(ids)),
            ],
        ),
    };
    let named = match missing {
        MissingResource::Group(id) => id.to_string(),
        MissingResource::Roles(ids) => ids.first().map(ToString::to_string).unwrap_or_default(),
        MissingResource::Users(ids) | MissingResource::UsersInGroup(_, ids) => {
            ids.first().map(ToString::to_string).unwrap_or_default()
        }
    };
    let mut details = error_info(reason, metadata);
    details.set_resource_info(kind, named, "", message.as_str());
    (Code::NotFound, message, details)
}

/// How many ids fit into [`MAX_LIST_BYTES`]: 36 characters and a comma each.
const MAX_IDS: usize = MAX_LIST_BYTES / 37;

/// The number of missing resources, and how many of them the details list if not all.
fn missing_message<T>(kind: &str, ids: &[T]) -> String {
    let count = ids.len();
    let listed = if count > MAX_IDS {
        format!(": the details list {MAX_IDS} of them")
    } else {
        String::new()
    };
    format!("{count} {kind} that the request names do not exist{listed}")
}

/// The first [`MAX_IDS`] ids, separated by commas.
fn join_ids<T: Id + Display>(ids: &[T]) -> String {
    let ids = ids.iter().take(MAX_IDS).map(ToString::to_string);
    ids.collect::<Vec<_>>().join(",")
}
