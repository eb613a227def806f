//! A small directory created through the API, on any engine.

use crate::channel::Channel;
use group_service::pb::{
    self, group_service_client::GroupServiceClient, role_service_client::RoleServiceClient,
    user_service_client::UserServiceClient,
};

use crate::directory;

const ROLES: u64 = 9;

/// The created resources.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) groups: Vec<String>,
    pub(crate) users: Vec<String>,
    /// One question for each user who is in a group.
    pub(crate) questions: Vec<pb::CheckAccessRequest>,
}

/// Creates groups with three roles of eleven rules each, and users; each of the first few users is in one group.
pub(crate) async fn create_fixture(
    channel: &Channel,
    groups: usize,
    users: usize,
    members: usize,
) -> Fixture {
    let mut client = RoleServiceClient::new(channel.clone());
    let mut roles = Vec::new();
    for role in 0..ROLES {
        let rules = (0..11).map(|number| {
            let [bundle, controller, action] = directory::rule(role, number);
            let effect = if number < 10 {
                pb::Effect::Allow
            } else {
                pb::Effect::Deny
            };
            pb::Rule {
                bundle,
                controller,
                action,
                effect: effect.into(),
            }
        });
        let name = directory::role_name(role);
        let request = pb::CreateRoleRequest {
            name,
            rules: rules.collect(),
            ..Default::default()
        };
        let created = client
            .create_role(request)
            .await
            .expect("created")
            .into_inner();
        roles.push(created.role.expect("a role").id);
    }
    let mut client = GroupServiceClient::new(channel.clone());
    let mut fixture = Fixture {
        groups: Vec::new(),
        users: Vec::new(),
        questions: Vec::new(),
    };
    for group in 0..groups {
        let role_ids = (0..3).map(|place| roles[(group + place) % roles.len()].clone());
        let title = directory::title(group as u64);
        let request = pb::CreateGroupRequest {
            title,
            role_ids: role_ids.collect(),
            ..Default::default()
        };
        let created = client
            .create_group(request)
            .await
            .expect("created")
            .into_inner();
        fixture.groups.push(created.group.expect("a group").id);
    }
    let mut user_client = UserServiceClient::new(channel.clone());
    for user in 0..users {
        let [first_name, last_name, username] = directory::person(user as u64);
        let request = pb::CreateUserRequest {
            username,
            first_name,
            last_name,
            ..Default::default()
        };
        let created = user_client
            .create_user(request)
            .await
            .expect("created")
            .into_inner();
        fixture.users.push(created.user.expect("a user").id);
    }
    for user in 0..members {
        let group = user % groups;
        let (group_id, user_id) = (fixture.groups[group].clone(), fixture.users[user].clone());
        let request = pb::AssignUserRequest {
            group_id,
            user_id: user_id.clone(),
            ..Default::default()
        };
        client.assign_user(request).await.expect("assigned");
        let role = group as u64 % ROLES;
        let [bundle, controller, action] = directory::rule(role, user as u64 % 10);
        fixture.questions.push(pb::CheckAccessRequest {
            user_id,
            bundle,
            controller,
            action,
            min_revision: 0,
        });
    }
    fixture
}
