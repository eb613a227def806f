//! Creating, updating and deleting: each call uses its own resource, which is created for it and deleted
//! afterwards, so that the directory stays unchanged.

use std::time::Duration;

use crate::channel::Channel;
use group_service::pb::{
    self, group_service_client::GroupServiceClient, role_service_client::RoleServiceClient,
    user_service_client::UserServiceClient,
};

use super::{Rpc, rpc, time};
use crate::{calls::began, directory::Directory};

/// Durations of creating, updating and deleting a resource.
type WriteTimes = [Duration; 3];

pub(super) fn rpcs(directory: &Directory) -> Vec<Rpc> {
    let mut rpcs = Vec::new();
    for (step, name) in ["CreateGroup", "UpdateGroup", "DeleteGroup"]
        .into_iter()
        .enumerate()
    {
        let roles: Vec<_> = (10..14).map(|role| directory.role(role)).collect();
        rpcs.push(rpc(name, move |channel, number| {
            let life = group(channel, unique(name, number), roles.clone());
            async move { life.await[step] }
        }));
    }
    for (step, name) in ["CreateRole", "UpdateRole", "DeleteRole"]
        .into_iter()
        .enumerate()
    {
        rpcs.push(rpc(name, move |channel, number| async move {
            role(channel, unique(name, number)).await[step]
        }));
    }
    for (step, name) in ["CreateUser", "UpdateUser", "DeleteUser"]
        .into_iter()
        .enumerate()
    {
        rpcs.push(rpc(name, move |channel, number| async move {
            user(channel, unique(name, number)).await[step]
        }));
    }
    rpcs
}

/// A name that no earlier run on the same directory has used.
fn unique(what: &str, number: u64) -> String {
    format!("{what} {number} of {}", began())
}

/// Creates a group with all of these roles but the last, which the update adds while it removes the first.
async fn group(channel: Channel, title: String, roles: Vec<String>) -> WriteTimes {
    let mut client = GroupServiceClient::new(channel);
    let (more, first) = roles.split_last().expect("some roles");
    let request = pb::CreateGroupRequest {
        title: title.clone(),
        role_ids: first.to_vec(),
        ..Default::default()
    };
    let (answer, created) = time(client.create_group(request)).await;
    let group_id = answer.group.expect("a group").id;
    let request = pb::UpdateGroupRequest {
        group_id: group_id.clone(),
        title: Some(format!("{title} again")),
        add_role_ids: vec![more.clone()],
        remove_role_ids: vec![first[0].clone()],
        ..Default::default()
    };
    let (_, updated) = time(client.update_group(request)).await;
    let request = pb::DeleteGroupRequest {
        group_id,
        ..Default::default()
    };
    let (_, deleted) = time(client.delete_group(request)).await;
    [created, updated, deleted]
}

async fn role(channel: Channel, name: String) -> WriteTimes {
    let mut client = RoleServiceClient::new(channel);
    let rules = (0..3).map(|rule| pb::Rule {
        bundle: "made".to_owned(),
        controller: "for-a-while".to_owned(),
        action: format!("action-{rule}"),
        effect: pb::Effect::Allow.into(),
    });
    let rules: Vec<_> = rules.collect();
    let request = pb::CreateRoleRequest {
        name: name.clone(),
        rules: rules.clone(),
        ..Default::default()
    };
    let (answer, created) = time(client.create_role(request)).await;
    let role_id = answer.role.expect("a role").id;
    let request = pb::UpdateRoleRequest {
        role_id: role_id.clone(),
        name: Some(format!("{name} again")),
        remove_rules: rules,
        ..Default::default()
    };
    let (_, updated) = time(client.update_role(request)).await;
    let request = pb::DeleteRoleRequest {
        role_id,
        ..Default::default()
    };
    let (_, deleted) = time(client.delete_role(request)).await;
    [created, updated, deleted]
}

async fn user(channel: Channel, username: String) -> WriteTimes {
    let mut client = UserServiceClient::new(channel);
    let request = pb::CreateUserRequest {
        username: username.clone(),
        ..Default::default()
    };
    let (answer, created) = time(client.create_user(request)).await;
    let user_id = answer.user.expect("a user").id;
    let request = pb::UpdateUserRequest {
        user_id: user_id.clone(),
        username: Some(format!("{username} again")),
        status: Some(pb::UserStatus::Blocked.into()),
        ..Default::default()
    };
    let (_, updated) = time(client.update_user(request)).await;
    let request = pb::DeleteUserRequest {
        user_id,
        ..Default::default()
    };
    let (_, deleted) = time(client.delete_user(request)).await;
    [created, updated, deleted]
}
