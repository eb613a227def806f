//! `request_id`: a request that is sent again gets the first answer again.

use group_service::pb;
use prost::Message;
use tokio::task::JoinSet;

use crate::{
    group::create,
    harness::{Database, Process, World, id, raw, told},
};

const CREATE: &str = "/groups.v1.GroupService/CreateGroup";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_callers_with_one_request_create_one_group_and_get_one_answer() {
    let mut w = World::start().await;
    let role = w.role("A").await.id;
    let request = pb::CreateGroupRequest {
        request_id: id(),
        ..create("Ops", &[&role])
    };
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let (channel, message) = (w.channel.clone(), request.encode_to_vec());
        callers.spawn(async move { raw::call(&channel, CREATE, message).await });
    }
    let mut answers = std::collections::BTreeSet::new();
    for answer in callers.join_all().await {
        answers.insert(answer.expect("answered").into_inner());
    }
    assert_eq!(answers.len(), 1, "byte for byte");
    let list = w
        .groups
        .list_groups(pb::ListGroupsRequest::default())
        .await
        .expect("listed");
    assert_eq!(list.into_inner().groups.len(), 1);

    // Again later, when the group has changed: the first answer. The state now is what GetGroup tells.
    let group =
        pb::CreateGroupResponse::decode(&answers.first().expect("one")[..]).expect("an answer");
    let group = group.group.expect("a group");
    w.groups
        .delete_group(crate::group::delete(&group.id))
        .await
        .expect("deleted");
    let again = raw::call(&w.channel, CREATE, request.encode_to_vec())
        .await
        .expect("answered");
    assert_eq!(again.into_inner(), *answers.first().expect("one"));
    let list = w
        .groups
        .list_groups(pb::ListGroupsRequest::default())
        .await
        .expect("listed");
    assert_eq!(list.into_inner().groups, []);

    // Another request under the same id is refused, of the same kind and of others, and from others.
    let other = pb::CreateGroupRequest {
        title: "Other".into(),
        ..request.clone()
    };
    assert_eq!(
        told(w.groups.create_group(other).await).fields(),
        ["request_id"]
    );
    let other = pb::CreateRoleRequest {
        name: "Ops".into(),
        request_id: request.request_id.clone(),
        ..Default::default()
    };
    assert_eq!(
        told(w.roles.create_role(other).await).fields(),
        ["request_id"]
    );
    let mut other = tonic::Request::new(request);
    other
        .metadata_mut()
        .insert("x-actor", "eve".parse().expect("ASCII"));
    assert_eq!(
        told(w.groups.create_group(other).await).fields(),
        ["request_id"]
    );
}

#[tokio::test]
async fn every_write_that_takes_an_id_answers_twice_the_same() {
    let mut w = World::start().await;
    let (a, b) = (w.role("A").await.id, w.role("B").await.id);
    let group = w.group("Ops", &[&a]).await.id;
    let users = w.many_users("user", 2).await;
    let encode = |message: &dyn Fn(String) -> Vec<u8>| message(id());
    let (group, users, a, b) = (&group, &users, &a, &b);
    let calls: Vec<(&str, Vec<u8>)> = vec![
        (
            "GroupService/CreateGroup",
            encode(&|request_id| {
                pb::CreateGroupRequest {
                    request_id,
                    ..create("New", &[a])
                }
                .encode_to_vec()
            }),
        ),
        (
            "GroupService/UpdateGroup",
            encode(&|request_id| {
                pb::UpdateGroupRequest {
                    request_id,
                    add_role_ids: vec![b.clone()],
                    ..crate::group::update(group)
                }
                .encode_to_vec()
            }),
        ),
        (
            "GroupService/AssignUser",
            encode(&|request_id| {
                pb::AssignUserRequest {
                    request_id,
                    ..crate::member::assign(group, &users[0])
                }
                .encode_to_vec()
            }),
        ),
        (
            "GroupService/UnassignUser",
            encode(&|request_id| {
                pb::UnassignUserRequest {
                    request_id,
                    ..crate::member::unassign(group, &users[0])
                }
                .encode_to_vec()
            }),
        ),
        (
            "GroupService/BatchAssignUsers",
            encode(&|request_id| {
                pb::BatchAssignUsersRequest {
                    request_id,
                    ..crate::member::assign_all(group, users)
                }
                .encode_to_vec()
            }),
        ),
        (
            "GroupService/BatchUnassignUsers",
            encode(&|request_id| {
                pb::BatchUnassignUsersRequest {
                    request_id,
                    ..crate::member::unassign_all(group, users)
                }
                .encode_to_vec()
            }),
        ),
        (
            "RoleService/CreateRole",
            encode(&|request_id| {
                pb::CreateRoleRequest {
                    request_id,
                    name: "New".into(),
                    ..Default::default()
                }
                .encode_to_vec()
            }),
        ),
        (
            "RoleService/UpdateRole",
            encode(&|request_id| {
                pb::UpdateRoleRequest {
                    request_id,
                    role_id: a.clone(),
                    name: Some("C".into()),
                    ..Default::default()
                }
                .encode_to_vec()
            }),
        ),
        (
            "UserService/CreateUser",
            encode(&|request_id| {
                pb::CreateUserRequest {
                    request_id,
                    username: "new".into(),
                    ..Default::default()
                }
                .encode_to_vec()
            }),
        ),
        (
            "UserService/UpdateUser",
            encode(&|request_id| {
                pb::UpdateUserRequest {
                    request_id,
                    user_id: users[0].clone(),
                    first_name: Some("Ann".into()),
                    ..Default::default()
                }
                .encode_to_vec()
            }),
        ),
    ];
    for (rpc, message) in calls {
        let path = format!("/groups.v1.{rpc}");
        let first = raw::call(&w.channel, &path, message.clone())
            .await
            .expect(rpc)
            .into_inner();
        let again = raw::call(&w.channel, &path, message)
            .await
            .expect(rpc)
            .into_inner();
        assert_eq!(first, again, "{rpc}");
    }
    let list = w
        .changes
        .list_changes(pb::ListChangesRequest::default())
        .await
        .expect("listed")
        .into_inner();
    let revisions: std::collections::BTreeSet<_> = list
        .changes
        .iter()
        .filter(|c| !c.request_id.is_empty())
        .map(|c| c.revision)
        .collect();
    assert_eq!(revisions.len(), 10, "each once");

    let bad = pb::CreateGroupRequest {
        request_id: "again".into(),
        ..create("", &[])
    };
    assert_eq!(
        told(w.groups.create_group(bad).await).fields(),
        ["title", "role_ids", "request_id"]
    );
}

#[tokio::test]
async fn a_failed_call_is_not_remembered() {
    let mut w = World::start().await;
    let role = w.role("A").await.id;
    let blocker = w.group("Ops", &[&role]).await.id;
    let request = pb::CreateGroupRequest {
        request_id: id(),
        ..create("Ops", &[&role])
    };
    assert_eq!(
        told(w.groups.create_group(request.clone()).await).reason,
        "GROUP_TITLE_TAKEN"
    );
    w.groups
        .delete_group(crate::group::delete(&blocker))
        .await
        .expect("deleted");
    w.groups
        .create_group(request)
        .await
        .expect("now it can be created");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_in_the_middle_leaves_one_group_and_one_answer() {
    let database = Database::create().await;
    let mut server = Process::start(database.url()).await;
    let (_, mut roles, _) = server.clients().await;
    let request = pb::CreateRoleRequest {
        name: "A".into(),
        ..Default::default()
    };
    let role = roles
        .create_role(request)
        .await
        .expect("created")
        .into_inner()
        .role
        .expect("a role")
        .id;
    for round in 0..10 {
        let request = pb::CreateGroupRequest {
            request_id: id(),
            ..create(&format!("Team {round}"), &[&role])
        };
        let mut callers = JoinSet::new();
        for _ in 0..100 {
            let (channel, message) = (server.connect().await, request.encode_to_vec());
            callers.spawn(async move { raw::call(&channel, CREATE, message).await });
        }
        // Killed when the first answers are in, or in some rounds before: the answers of the others are lost.
        if round % 2 == 0 {
            let _ = callers.join_next().await;
        }
        server.kill().await;
        let answers = callers.join_all().await.into_iter().filter_map(Result::ok);
        let mut answers: std::collections::BTreeSet<_> =
            answers.map(tonic::Response::into_inner).collect();
        server = Process::start(database.url()).await;
        for _ in 0..2 {
            let again = raw::call(&server.connect().await, CREATE, request.encode_to_vec()).await;
            answers.insert(again.expect("answered").into_inner());
        }
        assert_eq!(
            answers.len(),
            1,
            "round {round}: one answer, before the crash and after it"
        );
        let (mut groups, ..) = server.clients().await;
        let request = pb::ListGroupsRequest {
            query: format!("Team {round}"),
            ..Default::default()
        };
        let list = groups
            .list_groups(request)
            .await
            .expect("listed")
            .into_inner();
        assert_eq!(list.groups.len(), 1, "round {round}");
    }
    server.stop().await;
}
