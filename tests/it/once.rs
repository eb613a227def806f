//! `request_id`: a request that is sent again gets the first answer again.

use group_service::pb;
use prost::Message;
use sea_orm::{ConnectionTrait, DbBackend};
use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use crate::{
    group::create,
    harness::{Database, Process, World, engine, id, raw, told},
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

/// A message, and the same in other words.
fn reworded<M: Message>(message: M, other: M) -> [Vec<u8>; 2] {
    let messages = [message.encode_to_vec(), other.encode_to_vec()];
    assert_ne!(messages[0], messages[1]);
    messages
}

/// Letters of ids, the order of what is no sequence, and what is trimmed and composed don't make another request.
#[tokio::test]
async fn a_request_is_the_same_however_it_is_written() {
    let w = World::start().await;
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
                reworded(
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
                reworded(
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
                reworded(
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
                reworded(
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
                reworded(
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
                reworded(
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
                reworded(
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
                reworded(
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
                reworded(
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
                reworded(
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
    for number in 0..pairs(&id()).len() {
        let (rpc, [one, other]) = pairs(&id()).swap_remove(number);
        let path = format!("/groups.v1.{rpc}");
        let first = raw::call(&w.channel, &path, one).await.expect(rpc);
        let again = raw::call(&w.channel, &path, other).await.expect(rpc);
        assert_eq!(first.into_inner(), again.into_inner(), "{rpc}");
    }

    // What means something else is another request: other ids, and an empty text in place of none.
    let update = |first_name: Option<&str>| pb::UpdateUserRequest {
        user_id: users[0].clone(),
        first_name: first_name.map(Into::into),
        request_id: "0192a0a0-0000-7000-8000-000000000001".into(),
        ..Default::default()
    };
    let mut of_users = w.users.clone();
    of_users.update_user(update(None)).await.expect("no change");
    let refused = told(of_users.update_user(update(Some(""))).await);
    assert_eq!(refused.fields(), ["request_id"]);
}

/// Versions before kept a digest of the bytes. For a day after an upgrade there are such.
#[tokio::test]
async fn answers_that_an_older_version_has_kept_are_given_again() {
    let mut w = World::start().await;
    let roles = w.many_roles("role", 2).await;
    let request = pb::CreateGroupRequest {
        title: "Ops".into(),
        role_ids: vec![roles[1].clone(), roles[0].to_uppercase()],
        request_id: id(),
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
