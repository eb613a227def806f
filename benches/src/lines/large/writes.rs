//! What writes: each call's thing is made for it, and that isn't counted.

use group_service::pb::{
    self, group_service_client::GroupServiceClient, role_service_client::RoleServiceClient,
    user_service_client::UserServiceClient,
};
use tonic::transport::Channel;

use super::{Rpc, rpc, time};
use crate::{calls::began, directory::Directory};

/// How many users a batch has.
const BATCH: u64 = 100;

pub(super) fn rpcs(directory: &Directory) -> Vec<Rpc> {
    let mut rpcs = of_groups(directory);
    rpcs.extend(of_members(directory));
    rpcs.extend(of_roles());
    rpcs.extend(of_users());
    rpcs
}

/// A name that no earlier run on the same directory has given.
fn unique(what: &str, number: u64) -> String {
    format!("{what} {number} of {}", began())
}

fn of_groups(directory: &Directory) -> Vec<Rpc> {
    let roles: Vec<_> = (10..14).map(|role| directory.role(role)).collect();
    let [a, b, c] = [roles.clone(), roles.clone(), roles];
    vec![
        rpc("CreateGroup", move |channel, number| {
            let roles = a[..3].to_vec();
            async move { create_group(&channel, "Created", number, roles).await.1 }
        }),
        rpc("UpdateGroup", move |channel, number| {
            let (roles, add, remove) = (b[..3].to_vec(), b[3].clone(), b[0].clone());
            async move {
                let group = create_group(&channel, "Updated", number, roles).await.0;
                let request = pb::UpdateGroupRequest {
                    group_id: group.id,
                    title: Some(format!("{} again", group.title)),
                    add_role_ids: vec![add],
                    remove_role_ids: vec![remove],
                    ..Default::default()
                };
                time(GroupServiceClient::new(channel).update_group(request))
                    .await
                    .1
            }
        }),
        rpc("DeleteGroup", move |channel, number| {
            let roles = c[..3].to_vec();
            async move {
                let group = create_group(&channel, "Deleted", number, roles).await.0;
                let request = pb::DeleteGroupRequest {
                    group_id: group.id,
                    ..Default::default()
                };
                time(GroupServiceClient::new(channel).delete_group(request))
                    .await
                    .1
            }
        }),
    ]
}

async fn create_group(
    channel: &Channel,
    what: &str,
    number: u64,
    role_ids: Vec<String>,
) -> (pb::Group, std::time::Duration) {
    let title = unique(what, number);
    let request = pb::CreateGroupRequest {
        title,
        role_ids,
        ..Default::default()
    };
    let (answer, took) = time(GroupServiceClient::new(channel.clone()).create_group(request)).await;
    (answer.group.expect("a group"), took)
}

fn of_members(directory: &Directory) -> Vec<Rpc> {
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

/// A group, and a user who isn't in it.
fn one(directory: &Directory, number: u64) -> (String, String) {
    // Rounds are far apart in their numbers, and may be so in the directory.
    let (group, user) = directory.apart(number * 7 + 1);
    (directory.group(group), directory.user(user))
}

/// A group, and a hundred users who aren't in it: none is one to whom a multiple of a third of all groups leads.
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

fn of_roles() -> Vec<Rpc> {
    vec![
        rpc("CreateRole", |channel, number| async move {
            create_role(&channel, "Created", number).await.1
        }),
        rpc("UpdateRole", |channel, number| async move {
            let role = create_role(&channel, "Updated", number).await.0;
            let name = Some(format!("{} again", role.name));
            let request = pb::UpdateRoleRequest {
                role_id: role.id,
                name,
                remove_rules: role.rules,
                ..Default::default()
            };
            time(RoleServiceClient::new(channel).update_role(request))
                .await
                .1
        }),
        rpc("DeleteRole", |channel, number| async move {
            let role = create_role(&channel, "Deleted", number).await.0;
            let request = pb::DeleteRoleRequest {
                role_id: role.id,
                ..Default::default()
            };
            time(RoleServiceClient::new(channel).delete_role(request))
                .await
                .1
        }),
    ]
}

async fn create_role(
    channel: &Channel,
    what: &str,
    number: u64,
) -> (pb::Role, std::time::Duration) {
    let name = unique(what, number);
    let rules = (0..3).map(|rule| pb::Rule {
        bundle: "made".to_owned(),
        controller: format!("by-{what}").to_lowercase(),
        action: format!("action-{rule}"),
        effect: pb::Effect::Allow.into(),
    });
    let request = pb::CreateRoleRequest {
        name,
        rules: rules.collect(),
        ..Default::default()
    };
    let (answer, took) = time(RoleServiceClient::new(channel.clone()).create_role(request)).await;
    (answer.role.expect("a role"), took)
}

fn of_users() -> Vec<Rpc> {
    vec![
        rpc("CreateUser", |channel, number| async move {
            create_user(&channel, "created", number).await.1
        }),
        rpc("UpdateUser", |channel, number| async move {
            let user = create_user(&channel, "updated", number).await.0;
            let username = Some(format!("again-{}", user.username));
            let status = Some(pb::UserStatus::Blocked.into());
            let request = pb::UpdateUserRequest {
                user_id: user.id,
                username,
                status,
                ..Default::default()
            };
            time(UserServiceClient::new(channel).update_user(request))
                .await
                .1
        }),
        rpc("DeleteUser", |channel, number| async move {
            let user = create_user(&channel, "deleted", number).await.0;
            let request = pb::DeleteUserRequest {
                user_id: user.id,
                ..Default::default()
            };
            time(UserServiceClient::new(channel).delete_user(request))
                .await
                .1
        }),
    ]
}

async fn create_user(
    channel: &Channel,
    what: &str,
    number: u64,
) -> (pb::User, std::time::Duration) {
    let username = unique(what, number);
    let request = pb::CreateUserRequest {
        username,
        ..Default::default()
    };
    let (answer, took) = time(UserServiceClient::new(channel.clone()).create_user(request)).await;
    (answer.user.expect("a user"), took)
}
