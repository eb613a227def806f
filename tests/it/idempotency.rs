//! `request_id`: a repeated request gets the first response again.

use group_service::pb;
use prost::Message;
use sea_orm::{ConnectionTrait, DbBackend};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use crate::{
    group::create,
    harness::{Database, Process, TestServer, engine, expect_error, raw, unknown_id},
};

const CREATE: &str = "/groups.v1.GroupService/CreateGroup";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_duplicate_requests_are_executed_once() {
    let mut w = TestServer::start().await;
    let role = w.role("A").await.id;
    let request = pb::CreateGroupRequest {
        request_id: unknown_id(),
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

    // A later repetition, after the group has changed, still gets the first response; GetGroup returns the current
    // state.
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

    // A different request with the same id is rejected: of the same RPC, of another RPC, and from another actor.
    let other = pb::CreateGroupRequest {
        title: "Other".into(),
        ..request.clone()
    };
    assert_eq!(
        expect_error(w.groups.create_group(other).await).fields(),
        ["request_id"]
    );
    let other = pb::CreateRoleRequest {
        name: "Ops".into(),
        request_id: request.request_id.clone(),
        ..Default::default()
    };
    assert_eq!(
        expect_error(w.roles.create_role(other).await).fields(),
        ["request_id"]
    );
    let mut other = tonic::Request::new(request);
    other
        .metadata_mut()
        .insert("x-actor", "eve".parse().expect("ASCII"));
    assert_eq!(
        expect_error(w.groups.create_group(other).await).fields(),
        ["request_id"]
    );
}

#[tokio::test]
async fn repeated_request_id_returns_same_response_for_every_write() {
    let mut w = TestServer::start().await;
    let (a, b) = (w.role("A").await.id, w.role("B").await.id);
    let group = w.group("Ops", &[&a]).await.id;
    let users = w.many_users("user", 2).await;
    let encode = |message: &dyn Fn(String) -> Vec<u8>| message(unknown_id());
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
        expect_error(w.groups.create_group(bad).await).fields(),
        ["title", "role_ids", "request_id"]
    );
}

/// Two different encodings of equivalent messages.
fn equivalent_encodings<M: Message>(message: M, other: M) -> [Vec<u8>; 2] {
    let messages = [message.encode_to_vec(), other.encode_to_vec()];
    assert_ne!(messages[0], messages[1]);
    messages
}

/// The case of ids, the order of sets, trimming and Unicode composition don't make a request different.
#[tokio::test]
async fn request_comparison_ignores_encoding_differences() {
    let w = TestServer::start().await;
    let roles = w.many_roles("role", 3).await;
    let [a, b, c] = &roles[..] else {
        panic!("three roles")
    };
    let group = &w.group("Ops", &[a]).await.id;
    let users = w.many_users("user", 2).await;
    let role_etag = w.get_role(a).await.etag;
    let upper = |id: &str| id.to_uppercase();
    let backwards = |ids: &[&String]| ids.iter().rev().map(|id| upper(id)).collect::<Vec<_>>();
    let straight = |ids: &[&String]| ids.iter().map(|id| (*id).clone()).collect::<Vec<_>>();
    let rules = || {
        vec![
            crate::access::allow("a", "b", "c"),
            crate::access::deny("a", "b", "*"),
        ]
    };
    let reversed = || rules().into_iter().rev().collect::<Vec<_>>();
    let pairs = |id: &str| -> Vec<(&str, [Vec<u8>; 2])> {
        let (id, same) = (id.to_owned(), upper(id));
        vec![
            (
                "GroupService/CreateGroup",
                equivalent_encodings(
                    pb::CreateGroupRequest {
                        title: "Caf\u{e9}".into(),
                        role_ids: straight(&[a, b]),
                        request_id: id.clone(),
                    },
                    pb::CreateGroupRequest {
                        title: " Cafe\u{301} ".into(),
                        role_ids: backwards(&[a, b]),
                        request_id: same.clone(),
                    },
                ),
            ),
            (
                "GroupService/UpdateGroup",
                equivalent_encodings(
                    pb::UpdateGroupRequest {
                        group_id: group.clone(),
                        title: Some("Devs".into()),
                        add_role_ids: straight(&[b, c]),
                        remove_role_ids: straight(&[a]),
                        etag: String::new(),
                        request_id: id.clone(),
                    },
                    pb::UpdateGroupRequest {
                        group_id: upper(group),
                        title: Some("Devs ".into()),
                        add_role_ids: backwards(&[b, c]),
                        remove_role_ids: backwards(&[a]),
                        etag: String::new(),
                        request_id: same.clone(),
                    },
                ),
            ),
            (
                "GroupService/AssignUser",
                equivalent_encodings(
                    pb::AssignUserRequest {
                        request_id: id.clone(),
                        ..crate::member::assign(group, &users[0])
                    },
                    pb::AssignUserRequest {
                        request_id: same.clone(),
                        ..crate::member::assign(&upper(group), &upper(&users[0]))
                    },
                ),
            ),
            (
                "GroupService/UnassignUser",
                equivalent_encodings(
                    pb::UnassignUserRequest {
                        request_id: id.clone(),
                        ..crate::member::unassign(group, &users[0])
                    },
                    pb::UnassignUserRequest {
                        request_id: same.clone(),
                        ..crate::member::unassign(&upper(group), &upper(&users[0]))
                    },
                ),
            ),
            (
                "GroupService/BatchAssignUsers",
                equivalent_encodings(
                    pb::BatchAssignUsersRequest {
                        group_id: group.clone(),
                        user_ids: straight(&[&users[0], &users[1]]),
                        request_id: id.clone(),
                    },
                    pb::BatchAssignUsersRequest {
                        group_id: upper(group),
                        user_ids: backwards(&[&users[0], &users[1]]),
                        request_id: same.clone(),
                    },
                ),
            ),
            (
                "GroupService/BatchUnassignUsers",
                equivalent_encodings(
                    pb::BatchUnassignUsersRequest {
                        group_id: group.clone(),
                        user_ids: straight(&[&users[0], &users[1]]),
                        request_id: id.clone(),
                    },
                    pb::BatchUnassignUsersRequest {
                        group_id: upper(group),
                        user_ids: backwards(&[&users[0], &users[1]]),
                        request_id: same.clone(),
                    },
                ),
            ),
            (
                "RoleService/CreateRole",
                equivalent_encodings(
                    pb::CreateRoleRequest {
                        name: "New".into(),
                        description: "What for".into(),
                        rules: rules(),
                        request_id: id.clone(),
                    },
                    pb::CreateRoleRequest {
                        name: "\u{a0}New".into(),
                        description: " What for\n".into(),
                        rules: reversed(),
                        request_id: same.clone(),
                    },
                ),
            ),
            (
                "RoleService/UpdateRole",
                equivalent_encodings(
                    pb::UpdateRoleRequest {
                        role_id: a.clone(),
                        name: Some("C".into()),
                        description: Some("D".into()),
                        etag: role_etag.clone(),
                        request_id: id.clone(),
                        add_rules: rules(),
                        remove_rules: vec![],
                    },
                    pb::UpdateRoleRequest {
                        role_id: upper(a),
                        name: Some("C ".into()),
                        description: Some("D ".into()),
                        etag: role_etag.clone(),
                        request_id: same.clone(),
                        add_rules: reversed(),
                        remove_rules: vec![],
                    },
                ),
            ),
            (
                "UserService/CreateUser",
                equivalent_encodings(
                    pb::CreateUserRequest {
                        username: "new".into(),
                        first_name: "Ann".into(),
                        last_name: "Lee".into(),
                        request_id: id.clone(),
                    },
                    pb::CreateUserRequest {
                        username: "new ".into(),
                        first_name: " Ann".into(),
                        last_name: "Lee ".into(),
                        request_id: same.clone(),
                    },
                ),
            ),
            (
                "UserService/UpdateUser",
                equivalent_encodings(
                    pb::UpdateUserRequest {
                        user_id: users[1].clone(),
                        username: Some("other".into()),
                        first_name: Some("Ann".into()),
                        last_name: Some("Lee".into()),
                        status: Some(pb::UserStatus::Blocked.into()),
                        etag: String::new(),
                        request_id: id,
                    },
                    pb::UpdateUserRequest {
                        user_id: upper(&users[1]),
                        username: Some(" other".into()),
                        first_name: Some(" Ann".into()),
                        last_name: Some(" Lee".into()),
                        status: Some(pb::UserStatus::Blocked.into()),
                        etag: String::new(),
                        request_id: same,
                    },
                ),
            ),
        ]
    };
    for number in 0..pairs(&unknown_id()).len() {
        let (rpc, [one, other]) = pairs(&unknown_id()).swap_remove(number);
        let path = format!("/groups.v1.{rpc}");
        let first = raw::call(&w.channel, &path, one).await.expect(rpc);
        let again = raw::call(&w.channel, &path, other).await.expect(rpc);
        assert_eq!(first.into_inner(), again.into_inner(), "{rpc}");
    }

    // Requests with another meaning differ: other ids, or an empty text instead of an absent one.
    let update = |first_name: Option<&str>| pb::UpdateUserRequest {
        user_id: users[0].clone(),
        first_name: first_name.map(Into::into),
        request_id: "0192a0a0-0000-7000-8000-000000000001".into(),
        ..Default::default()
    };
    let mut of_users = w.users.clone();
    of_users.update_user(update(None)).await.expect("no change");
    let refused = expect_error(of_users.update_user(update(Some(""))).await);
    assert_eq!(refused.fields(), ["request_id"]);
}

/// Earlier versions stored a digest of the raw bytes; such entries exist for a day after an upgrade.
#[tokio::test]
async fn responses_stored_by_older_version_are_replayed() {
    let mut w = TestServer::start().await;
    let roles = w.many_roles("role", 2).await;
    let request = pb::CreateGroupRequest {
        title: "Ops".into(),
        role_ids: vec![roles[1].clone(), roles[0].to_uppercase()],
        request_id: unknown_id(),
    };
    let first = w.groups.create_group(request.clone()).await;
    let first = first.expect("created").into_inner();
    let mut digest = Sha256::new();
    for part in [&b"CreateGroupRequest"[..], b"", &request.encode_to_vec()] {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    let digest: [u8; 32] = digest.finalize().into();
    let db = w.database.connect().await;
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let literal = match engine() {
        DbBackend::Postgres => format!("decode('{hex}', 'hex')"),
        _ => format!("x'{hex}'"),
    };
    let sql = format!("UPDATE requests SET fingerprint = {literal}");
    db.execute_unprepared(&sql).await.expect("as it was kept");
    let again = w.groups.create_group(request).await;
    assert_eq!(again.expect("answered again").into_inner(), first);
}

#[tokio::test]
async fn failed_requests_are_not_stored() {
    let mut w = TestServer::start().await;
    let role = w.role("A").await.id;
    let blocker = w.group("Ops", &[&role]).await.id;
    let request = pb::CreateGroupRequest {
        request_id: unknown_id(),
        ..create("Ops", &[&role])
    };
    assert_eq!(
        expect_error(w.groups.create_group(request.clone()).await).reason,
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
async fn retry_after_crash_is_executed_once() {
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
            request_id: unknown_id(),
            ..create(&format!("Team {round}"), &[&role])
        };
        let mut callers = JoinSet::new();
        for _ in 0..100 {
            let (channel, message) = (server.connect().await, request.encode_to_vec());
            callers.spawn(async move { raw::call(&channel, CREATE, message).await });
        }
        // Killed after the first responses, or in some rounds before them: the other responses are lost.
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
