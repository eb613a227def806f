//! `GroupService`: users in groups.

use group_service::pb;

use crate::{
    contract::{Failure, Success},
    harness::{TestServer, expect_error, unknown_id},
};

pub(crate) fn successes() -> Vec<Success> {
    vec![
        Success {
            rpc: "AssignUser",
            run: |w| {
                Box::pin(async move {
                    let (group, users) = stage(w, 1).await;
                    let trace = w.traced();
                    w.assign(&group, &users[0]).await;
                    w.trace(None);
                    // A repetition is not an error, and changes nothing.
                    w.assign(&group, &users[0]).await;
                    assert_eq!(w.get_group(&group).await.user_count, 1);
                    trace
                })
            },
        },
        Success {
            rpc: "UnassignUser",
            run: |w| {
                Box::pin(async move {
                    let (group, users) = stage(w, 1).await;
                    w.assign(&group, &users[0]).await;
                    let trace = w.traced();
                    w.groups
                        .unassign_user(unassign(&group, &users[0]))
                        .await
                        .expect("unassigned");
                    w.trace(None);
                    assert_eq!(w.get_group(&group).await.user_count, 0);
                    // The association is deleted, the user stays.
                    let request = pb::GetUserRequest {
                        user_id: users[0].clone(),
                        ..Default::default()
                    };
                    w.users.get_user(request).await.expect("still there");
                    trace
                })
            },
        },
        Success {
            rpc: "BatchAssignUsers",
            run: |w| {
                Box::pin(async move {
                    let (group, users) = stage(w, 3).await;
                    w.assign(&group, &users[1]).await;
                    let trace = w.traced();
                    let response = w
                        .groups
                        .batch_assign_users(assign_all(&group, &users))
                        .await;
                    assert_eq!(response.expect("assigned").into_inner().assigned_count, 2);
                    w.trace(None);
                    assert_eq!(w.get_group(&group).await.user_count, 3);
                    trace
                })
            },
        },
        Success {
            rpc: "BatchUnassignUsers",
            run: |w| {
                Box::pin(async move {
                    let (group, mut users) = stage(w, 3).await;
                    w.groups
                        .batch_assign_users(assign_all(&group, &users))
                        .await
                        .expect("assigned");
                    // Users who are not in the group, or no longer exist, are skipped.
                    users.pop();
                    users.push(unknown_id());
                    let trace = w.traced();
                    let response = w
                        .groups
                        .batch_unassign_users(unassign_all(&group, &users))
                        .await;
                    assert_eq!(
                        response.expect("unassigned").into_inner().unassigned_count,
                        2
                    );
                    w.trace(None);
                    assert_eq!(w.get_group(&group).await.user_count, 1);
                    trace
                })
            },
        },
        Success {
            rpc: "ListUsersInGroup",
            run: |w| {
                Box::pin(async move {
                    let (group, users) = stage(w, 3).await;
                    w.groups
                        .batch_assign_users(assign_all(&group, &users[1..]))
                        .await
                        .expect("assigned");
                    let trace = w.traced();
                    let request = pb::ListUsersInGroupRequest {
                        with_total_size: true,
                        ..users_in(&group)
                    };
                    let list = w
                        .groups
                        .list_users_in_group(request)
                        .await
                        .expect("listed")
                        .into_inner();
                    let ids: Vec<_> = list.users.iter().map(|user| user.id.clone()).collect();
                    assert_eq!(ids, users[1..]);
                    assert_eq!(list.total_size, Some(2));
                    w.trace(None);
                    let request = pb::ListUsersInGroupRequest {
                        query: "USER 2".into(),
                        ..users_in(&group)
                    };
                    let list = w
                        .groups
                        .list_users_in_group(request)
                        .await
                        .expect("listed")
                        .into_inner();
                    assert_eq!(list.users.len(), 1);
                    assert_eq!(list.total_size, None);
                    trace
                })
            },
        },
    ]
}

pub(crate) fn failures() -> Vec<Failure> {
    vec![
        Failure {
            rpc: "AssignUser",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let reported = expect_error(w.groups.assign_user(assign("g", "u")).await);
                    assert_eq!(reported.fields(), ["group_id", "user_id"]);
                    reported
                })
            },
        },
        Failure {
            rpc: "AssignUser",
            reason: "GROUP_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    let user = w.user("ann").await;
                    expect_error(w.groups.assign_user(assign(&unknown_id(), &user.id)).await)
                })
            },
        },
        Failure {
            rpc: "AssignUser",
            reason: "USER_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    let (group, _) = stage(w, 0).await;
                    let absent = unknown_id();
                    let reported =
                        expect_error(w.groups.assign_user(assign(&group, &absent)).await);
                    assert_eq!(reported.metadata["user_ids"], absent);
                    reported
                })
            },
        },
        Failure {
            rpc: "UnassignUser",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let reported = expect_error(w.groups.unassign_user(unassign("", "")).await);
                    assert_eq!(reported.fields(), ["group_id", "user_id"]);
                    reported
                })
            },
        },
        Failure {
            rpc: "UnassignUser",
            reason: "GROUP_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    let user = w.user("ann").await;
                    let request = unassign(&unknown_id(), &user.id);
                    let request = pb::UnassignUserRequest {
                        allow_missing: true,
                        ..request
                    };
                    expect_error(w.groups.unassign_user(request).await)
                })
            },
        },
        Failure {
            rpc: "UnassignUser",
            reason: "USER_NOT_IN_GROUP",
            run: |w| {
                Box::pin(async move {
                    let (group, users) = stage(w, 1).await;
                    let request = unassign(&group, &users[0]);
                    let lenient = pb::UnassignUserRequest {
                        allow_missing: true,
                        ..request.clone()
                    };
                    w.groups
                        .unassign_user(lenient)
                        .await
                        .expect("a success where that is allowed");
                    let reported = expect_error(w.groups.unassign_user(request).await);
                    assert_eq!(reported.metadata["group_id"], group);
                    assert_eq!(reported.metadata["user_ids"], users[0]);
                    reported
                })
            },
        },
        Failure {
            rpc: "BatchAssignUsers",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let users: Vec<_> = (0..1001).map(|_| unknown_id()).collect();
                    let reported =
                        expect_error(w.groups.batch_assign_users(assign_all("", &users)).await);
                    assert_eq!(reported.fields(), ["group_id", "user_ids"]);
                    reported
                })
            },
        },
        Failure {
            rpc: "BatchAssignUsers",
            reason: "GROUP_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    let user = w.user("ann").await;
                    expect_error(
                        w.groups
                            .batch_assign_users(assign_all(&unknown_id(), &[user.id]))
                            .await,
                    )
                })
            },
        },
        Failure {
            rpc: "BatchAssignUsers",
            reason: "USER_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    let (group, mut users) = stage(w, 2).await;
                    let (one, other) = (unknown_id(), unknown_id());
                    users.insert(1, one.clone());
                    users.push(other.clone());
                    let reported = expect_error(
                        w.groups
                            .batch_assign_users(assign_all(&group, &users))
                            .await,
                    );
                    assert_eq!(reported.metadata["user_ids"], format!("{one},{other}"));
                    assert_eq!(w.get_group(&group).await.user_count, 0, "all or nothing");
                    reported
                })
            },
        },
        Failure {
            rpc: "BatchAssignUsers",
            reason: "USER_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    // As many ids as fit into a header are listed; the count includes all.
                    let (group, _) = stage(w, 0).await;
                    let users: Vec<_> = (0..1000).map(|_| unknown_id()).collect();
                    let reported = expect_error(
                        w.groups
                            .batch_assign_users(assign_all(&group, &users))
                            .await,
                    );
                    assert_eq!(reported.metadata["count"], "1000");
                    let named: Vec<_> = reported.metadata["user_ids"].split(',').collect();
                    assert!(named.len() >= 100);
                    assert_eq!(named, users[..named.len()]);
                    let listed = format!("the details list {} of them", named.len());
                    assert!(reported.message.ends_with(&listed), "{}", reported.message);
                    reported
                })
            },
        },
        Failure {
            rpc: "BatchUnassignUsers",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let reported =
                        expect_error(w.groups.batch_unassign_users(unassign_all("", &[])).await);
                    assert_eq!(reported.fields(), ["group_id", "user_ids"]);
                    reported
                })
            },
        },
        Failure {
            rpc: "BatchUnassignUsers",
            reason: "GROUP_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    expect_error(
                        w.groups
                            .batch_unassign_users(unassign_all(&unknown_id(), &[unknown_id()]))
                            .await,
                    )
                })
            },
        },
        Failure {
            rpc: "ListUsersInGroup",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let query = "x".repeat(256);
                    let request = pb::ListUsersInGroupRequest {
                        query,
                        page_size: -1,
                        ..users_in("g")
                    };
                    let reported = expect_error(w.groups.list_users_in_group(request).await);
                    assert_eq!(reported.fields(), ["group_id", "query", "page_size"]);
                    reported
                })
            },
        },
        Failure {
            rpc: "ListUsersInGroup",
            reason: "GROUP_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    expect_error(w.groups.list_users_in_group(users_in(&unknown_id())).await)
                })
            },
        },
    ]
}

/// Creates a group, and users who are not in it.
async fn stage(w: &TestServer, users: usize) -> (String, Vec<String>) {
    let role = w.role("A").await;
    let group = w.group("Ops", &[&role.id]).await;
    (group.id, w.many_users("user", users).await)
}

pub(crate) fn assign(group_id: &str, user_id: &str) -> pb::AssignUserRequest {
    pb::AssignUserRequest {
        group_id: group_id.into(),
        user_id: user_id.into(),
        ..Default::default()
    }
}

pub(crate) fn unassign(group_id: &str, user_id: &str) -> pb::UnassignUserRequest {
    let (group_id, user_id) = (group_id.into(), user_id.into());
    pb::UnassignUserRequest {
        group_id,
        user_id,
        allow_missing: false,
        ..Default::default()
    }
}

pub(crate) fn assign_all(group_id: &str, user_ids: &[String]) -> pb::BatchAssignUsersRequest {
    pb::BatchAssignUsersRequest {
        group_id: group_id.into(),
        user_ids: user_ids.to_vec(),
        ..Default::default()
    }
}

pub(crate) fn unassign_all(group_id: &str, user_ids: &[String]) -> pb::BatchUnassignUsersRequest {
    pb::BatchUnassignUsersRequest {
        group_id: group_id.into(),
        user_ids: user_ids.to_vec(),
        ..Default::default()
    }
}

pub(crate) fn users_in(group_id: &str) -> pb::ListUsersInGroupRequest {
    pb::ListUsersInGroupRequest {
        group_id: group_id.into(),
        ..Default::default()
    }
}
