//! `GroupService`: who is in a group.

use group_service::pb;

use crate::{
    contract::{Failure, Success},
    harness::{World, id, told},
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
                    // Again: no error, no change.
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
                    // Those who are not in the group, or are no more, are passed over.
                    users.pop();
                    users.push(id());
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
                    let told = told(w.groups.assign_user(assign("g", "u")).await);
                    assert_eq!(told.fields(), ["group_id", "user_id"]);
                    told
                })
            },
        },
        Failure {
            rpc: "AssignUser",
            reason: "GROUP_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    let user = w.user("ann").await;
                    told(w.groups.assign_user(assign(&id(), &user.id)).await)
                })
            },
        },
        Failure {
            rpc: "AssignUser",
            reason: "USER_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    let (group, _) = stage(w, 0).await;
                    let absent = id();
                    let told = told(w.groups.assign_user(assign(&group, &absent)).await);
                    assert_eq!(told.metadata["user_ids"], absent);
                    told
                })
            },
        },
        Failure {
            rpc: "UnassignUser",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let told = told(w.groups.unassign_user(unassign("", "")).await);
                    assert_eq!(told.fields(), ["group_id", "user_id"]);
                    told
                })
            },
        },
        Failure {
            rpc: "UnassignUser",
            reason: "GROUP_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    let user = w.user("ann").await;
                    let request = unassign(&id(), &user.id);
                    let request = pb::UnassignUserRequest {
                        allow_missing: true,
                        ..request
                    };
                    told(w.groups.unassign_user(request).await)
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
                    let told = told(w.groups.unassign_user(request).await);
                    assert_eq!(told.metadata["group_id"], group);
                    assert_eq!(told.metadata["user_ids"], users[0]);
                    told
                })
            },
        },
        Failure {
            rpc: "BatchAssignUsers",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let users: Vec<_> = (0..1001).map(|_| id()).collect();
                    let told = told(w.groups.batch_assign_users(assign_all("", &users)).await);
                    assert_eq!(told.fields(), ["group_id", "user_ids"]);
                    told
                })
            },
        },
        Failure {
            rpc: "BatchAssignUsers",
            reason: "GROUP_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    let user = w.user("ann").await;
                    told(
                        w.groups
                            .batch_assign_users(assign_all(&id(), &[user.id]))
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
                    let (one, other) = (id(), id());
                    users.insert(1, one.clone());
                    users.push(other.clone());
                    let told = told(
                        w.groups
                            .batch_assign_users(assign_all(&group, &users))
                            .await,
                    );
                    assert_eq!(told.metadata["user_ids"], format!("{one},{other}"));
                    assert_eq!(w.get_group(&group).await.user_count, 0, "all or nothing");
                    told
                })
            },
        },
        Failure {
            rpc: "BatchAssignUsers",
            reason: "USER_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    // As many as fit into a header are named, and the rest is counted.
                    let (group, _) = stage(w, 0).await;
                    let users: Vec<_> = (0..1000).map(|_| id()).collect();
                    let told = told(
                        w.groups
                            .batch_assign_users(assign_all(&group, &users))
                            .await,
                    );
                    assert_eq!(told.metadata["count"], "1000");
                    let named: Vec<_> = told.metadata["user_ids"].split(',').collect();
                    assert!(named.len() >= 100);
                    assert_eq!(named, users[..named.len()]);
                    let listed = format!("the details list {} of them", named.len());
                    assert!(told.message.ends_with(&listed), "{}", told.message);
                    told
                })
            },
        },
        Failure {
            rpc: "BatchUnassignUsers",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let told = told(w.groups.batch_unassign_users(unassign_all("", &[])).await);
                    assert_eq!(told.fields(), ["group_id", "user_ids"]);
                    told
                })
            },
        },
        Failure {
            rpc: "BatchUnassignUsers",
            reason: "GROUP_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    told(
                        w.groups
                            .batch_unassign_users(unassign_all(&id(), &[id()]))
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
                    let told = told(w.groups.list_users_in_group(request).await);
                    assert_eq!(told.fields(), ["group_id", "query", "page_size"]);
                    told
                })
            },
        },
        Failure {
            rpc: "ListUsersInGroup",
            reason: "GROUP_NOT_FOUND",
            run: |w| {
                Box::pin(async move { told(w.groups.list_users_in_group(users_in(&id())).await) })
            },
        },
    ]
}

/// A group, and users who are not in it.
async fn stage(w: &World, users: usize) -> (String, Vec<String>) {
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
