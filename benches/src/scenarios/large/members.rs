//! Memberships: users are added to a group and removed again.

use group_service::pb::{self, group_service_client::GroupServiceClient};

use super::{Rpc, rpc, time};
use crate::directory::Directory;

/// Number of users in a batch.
const BATCH: u64 = 100;

pub(super) fn rpcs(directory: &Directory) -> Vec<Rpc> {
    let own = || directory.clone();
    let (a, b, c, d) = (own(), own(), own(), own());
    vec![
        rpc("AssignUser", move |channel, number| {
            let (group_id, user_id) = one(&a, number);
            async move {
                let request = pb::AssignUserRequest {
                    group_id: group_id.clone(),
                    user_id: user_id.clone(),
                    ..Default::default()
                };
                let took = time(GroupServiceClient::new(channel.clone()).assign_user(request))
                    .await
                    .1;
                let request = pb::UnassignUserRequest {
                    group_id,
                    user_id,
                    ..Default::default()
                };
                time(GroupServiceClient::new(channel).unassign_user(request)).await;
                took
            }
        }),
        rpc("UnassignUser", move |channel, number| {
            let (group_id, user_id) = one(&b, number);
            async move {
                let request = pb::AssignUserRequest {
                    group_id: group_id.clone(),
                    user_id: user_id.clone(),
                    ..Default::default()
                };
                time(GroupServiceClient::new(channel.clone()).assign_user(request)).await;
                let request = pb::UnassignUserRequest {
                    group_id,
                    user_id,
                    ..Default::default()
                };
                time(GroupServiceClient::new(channel).unassign_user(request))
                    .await
                    .1
            }
        }),
        rpc("BatchAssignUsers of 100", move |channel, number| {
            let (group_id, user_ids) = many(&c, number);
            async move {
                let request = pb::BatchAssignUsersRequest {
                    group_id: group_id.clone(),
                    user_ids: user_ids.clone(),
                    ..Default::default()
                };
                let took =
                    time(GroupServiceClient::new(channel.clone()).batch_assign_users(request))
                        .await
                        .1;
                let request = pb::BatchUnassignUsersRequest {
                    group_id,
                    user_ids,
                    ..Default::default()
                };
                time(GroupServiceClient::new(channel).batch_unassign_users(request)).await;
                took
            }
        }),
        rpc("BatchUnassignUsers of 100", move |channel, number| {
            let (group_id, user_ids) = many(&d, number);
            async move {
                let request = pb::BatchAssignUsersRequest {
                    group_id: group_id.clone(),
                    user_ids: user_ids.clone(),
                    ..Default::default()
                };
                time(GroupServiceClient::new(channel.clone()).batch_assign_users(request)).await;
                let request = pb::BatchUnassignUsersRequest {
                    group_id,
                    user_ids,
                    ..Default::default()
                };
                time(GroupServiceClient::new(channel).batch_unassign_users(request))
                    .await
                    .1
            }
        }),
    ]
}

/// A group and a user who isn't in it.
fn one(directory: &Directory, number: u64) -> (String, String) {
    // Spreads consecutive numbers over the directory.
    let (group, user) = directory.disjoint_pair(number * 7 + 1);
    (directory.group(group), directory.user(user))
}

/// A group and a hundred users who aren't in it: the users of a group are multiples of a third of all groups away.
fn many(directory: &Directory, number: u64) -> (String, Vec<String>) {
    let group = 1 + (number * 7) % (directory.size.groups - 1);
    let users = (0..BATCH).map(|place| (group + place + 1) % directory.size.users);
    (
        directory.group(group),
        users
            .filter(|user| *user != 0)
            .map(|user| directory.user(user))
            .collect(),
    )
}
