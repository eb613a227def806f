//! Reading RPCs.

use std::time::Instant;

use group_service::pb::{
    self, access_service_client::AccessServiceClient, change_service_client::ChangeServiceClient,
    group_service_client::GroupServiceClient, role_service_client::RoleServiceClient,
    user_service_client::UserServiceClient,
};

use super::{Rpc, rpc, time};
use crate::{
    calls::question,
    directory::{Directory, person, role_name, rule, title},
    scenarios::{HOT, access::batches},
};

/// An RPC by its client and its method; the request is built from a number.
macro_rules! reads {
    ($($name:literal: $client:ident.$method:ident(|$number:ident| $request:expr);)*) => {
        vec![$(rpc($name, {
            let request = move |$number: u64| $request;
            move |channel, number| {
                let request = request(number);
                async move { time($client::new(channel).$method(request)).await.1 }
            }
        })),*]
    };
}

pub(super) fn rpcs(directory: &Directory) -> Vec<Rpc> {
    let size = directory.size;
    let all = |of: u64| Directory::spread_indices(of, HOT);
    let groups: Vec<_> = all(size.groups)
        .map(|group| directory.group(group))
        .collect();
    let users: Vec<_> = all(size.users).map(|user| directory.user(user)).collect();
    let roles: Vec<_> = all(directory.roles())
        .map(|role| directory.role(role))
        .collect();
    let questions: Vec<_> = all(size.users)
        .map(|user| question(directory, user, user))
        .collect();
    let batches = batches(directory);
    let rules: Vec<_> = all(directory.roles())
        .map(|role| rule(role, role % 10))
        .collect();
    let names: Vec<_> = all(size.users)
        .map(|user| person(user)[2].clone())
        .collect();
    let titles: Vec<_> = all(size.groups).map(title).collect();
    let role_names: Vec<_> = all(directory.roles()).map(role_name).collect();
    // Each closure owns the ids that it requests.
    let of = |list: &[String]| {
        let list = list.to_vec();
        move |number: u64| list[(number % list.len() as u64) as usize].clone()
    };
    let (g1, g2, g3, g4, g5) = (
        of(&groups),
        of(&groups),
        of(&groups),
        of(&groups),
        of(&groups),
    );
    let (u1, u2, u3, u4) = (of(&users), of(&users), of(&users), of(&users));
    let (r1, r2) = (of(&roles), of(&roles));
    let (user_named, titled, role_named) = (of(&names), of(&titles), of(&role_names));
    let in_group = of(&["kowalski".to_owned(), "sato".to_owned()]);
    let revision = size.changes as i64 - 100;
    let mut rpcs = reads! {
        "CheckAccess": AccessServiceClient.check_access(|n| questions[n as usize % questions.len()].clone());
        "BatchCheckAccess of 100": AccessServiceClient.batch_check_access(|n| batches[n as usize % batches.len()].clone());
        "ListUsersWithAccess": AccessServiceClient.list_users_with_access(|n| {
            let [bundle, controller, action] = rules[n as usize % rules.len()].clone();
            pb::ListUsersWithAccessRequest { bundle, controller, action, ..Default::default() }
        });
        "GetGroup": GroupServiceClient.get_group(|n| pb::GetGroupRequest { group_id: g1(n), ..Default::default() });
        "ListRolesInGroup": GroupServiceClient.list_roles_in_group(|n| pb::ListRolesInGroupRequest { group_id: g2(n), ..Default::default() });
        "ListUsersInGroup": GroupServiceClient.list_users_in_group(|n| pb::ListUsersInGroupRequest { group_id: g3(n), ..Default::default() });
        "ListUsersInGroup, search": GroupServiceClient.list_users_in_group(|n| pb::ListUsersInGroupRequest { group_id: g4(n), query: in_group(n), ..Default::default() });
        "ListGroups": GroupServiceClient.list_groups(|_n| pb::ListGroupsRequest::default());
        "ListGroups, total_size": GroupServiceClient.list_groups(|_n| pb::ListGroupsRequest { with_total_size: true, ..Default::default() });
        "ListGroups of a role": GroupServiceClient.list_groups(|n| pb::ListGroupsRequest { role_id: r1(n), ..Default::default() });
        "ListGroups of a user": GroupServiceClient.list_groups(|n| pb::ListGroupsRequest { user_id: u1(n), ..Default::default() });
        "ListGroups, search for one": GroupServiceClient.list_groups(|n| pb::ListGroupsRequest { query: titled(n), ..Default::default() });
        "ListGroups, search for one in seven": GroupServiceClient.list_groups(|_n| pb::ListGroupsRequest { query: "berlin".to_owned(), ..Default::default() });
        "GetRole": RoleServiceClient.get_role(|n| pb::GetRoleRequest { role_id: r2(n), ..Default::default() });
        "ListRoles": RoleServiceClient.list_roles(|_n| pb::ListRolesRequest::default());
        "ListRoles, search for one": RoleServiceClient.list_roles(|n| pb::ListRolesRequest { query: role_named(n), ..Default::default() });
        "GetUser": UserServiceClient.get_user(|n| pb::GetUserRequest { user_id: u2(n), ..Default::default() });
        "ListUsers": UserServiceClient.list_users(|_n| pb::ListUsersRequest::default());
        "ListUsers, search for one": UserServiceClient.list_users(|n| pb::ListUsersRequest { query: user_named(n), ..Default::default() });
        "ListUsers, search for one in eleven": UserServiceClient.list_users(|_n| pb::ListUsersRequest { query: "kowalski".to_owned(), ..Default::default() });
        "ListRolesOfUser": UserServiceClient.list_roles_of_user(|n| pb::ListRolesOfUserRequest { user_id: u3(n), ..Default::default() });
        "ListChanges": ChangeServiceClient.list_changes(|_n| pb::ListChangesRequest::default());
        "ListChanges of a group": ChangeServiceClient.list_changes(|n| changes_of(pb::ChangeFilter { group_id: g5(n), ..Default::default() }));
        "ListChanges of a user": ChangeServiceClient.list_changes(|n| changes_of(pb::ChangeFilter { user_id: u4(n), ..Default::default() }));
    };
    rpcs.push(rpc(
        "WatchChanges, to the first changes",
        move |channel, _| async move {
            let began = Instant::now();
            let request = pb::WatchChangesRequest {
                from_revision: revision,
                ..Default::default()
            };
            let feed = ChangeServiceClient::new(channel)
                .watch_changes(request)
                .await;
            let first = feed.expect("followed").into_inner().message().await;
            let took = began.elapsed();
            assert!(!first.expect("told").expect("a message").changes.is_empty());
            took
        },
    ));
    rpcs
}

fn changes_of(filter: pb::ChangeFilter) -> pb::ListChangesRequest {
    pb::ListChangesRequest {
        filter: Some(filter),
        ..Default::default()
    }
}
