//! Conversions of `groups.v1.GroupService` requests about group membership to commands.

use crate::{
    domain::{AssignUsers, GroupId, UnassignUsers, UserId, Violations},
    error::Error,
    pb,
};

/// Maximum number of users that one request may assign or unassign.
const MAX_USERS: usize = 1000;

impl TryFrom<pb::AssignUserRequest> for AssignUsers {
    type Error = Error;

    fn try_from(request: pb::AssignUserRequest) -> Result<Self, Error> {
        let pb::AssignUserRequest {
            group_id,
            user_id,
            request_id: _,
        } = request;
        let (group_id, user_ids) = member(&group_id, &user_id)?;
        Ok(Self { group_id, user_ids })
    }
}

impl TryFrom<pb::UnassignUserRequest> for UnassignUsers {
    type Error = Error;

    fn try_from(request: pb::UnassignUserRequest) -> Result<Self, Error> {
        let pb::UnassignUserRequest {
            group_id,
            user_id,
            allow_missing,
            request_id: _,
        } = request;
        let (group_id, user_ids) = member(&group_id, &user_id)?;
        Ok(Self {
            group_id,
            user_ids,
            allow_missing,
        })
    }
}

impl TryFrom<pb::BatchAssignUsersRequest> for AssignUsers {
    type Error = Error;

    fn try_from(request: pb::BatchAssignUsersRequest) -> Result<Self, Error> {
        let pb::BatchAssignUsersRequest {
            group_id,
            user_ids,
            request_id: _,
        } = request;
        let (group_id, user_ids) = members(&group_id, &user_ids)?;
        Ok(Self { group_id, user_ids })
    }
}

impl TryFrom<pb::BatchUnassignUsersRequest> for UnassignUsers {
    type Error = Error;

    fn try_from(request: pb::BatchUnassignUsersRequest) -> Result<Self, Error> {
        let pb::BatchUnassignUsersRequest {
            group_id,
            user_ids,
            request_id: _,
        } = request;
        let (group_id, user_ids) = members(&group_id, &user_ids)?;
        Ok(Self {
            group_id,
            user_ids,
            allow_missing: true,
        })
    }
}

fn member(group_id: &str, user_id: &str) -> Result<(GroupId, Vec<UserId>), Error> {
    let mut violations = Violations::default();
    let group_id = violations.id("group_id", group_id);
    let user_id = violations.id("user_id", user_id);
    match (group_id, user_id) {
        (Some(group_id), Some(user_id)) => Ok((group_id, vec![user_id])),
        _ => Err(violations.into()),
    }
}

fn members(group_id: &str, user_ids: &[String]) -> Result<(GroupId, Vec<UserId>), Error> {
    let mut violations = Violations::default();
    let group_id = violations.id("group_id", group_id);
    let user_ids = violations.ids("user_ids", user_ids, 1..=MAX_USERS);
    match (group_id, user_ids) {
        (Some(group_id), Some(user_ids)) => Ok((group_id, user_ids)),
        _ => Err(violations.into()),
    }
}

/// The row count of a batch, which is at most [`MAX_USERS`].
pub(super) fn count(rows: u64) -> i32 {
    i32::try_from(rows).unwrap_or(i32::MAX)
}
