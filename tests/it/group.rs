//! `GroupService`: groups and their roles.

use group_service::pb;

use crate::{
    contract::{Failure, Success},
    harness::{TestServer, expect_error, unknown_id},
};

pub(crate) fn successes() -> Vec<Success> {
    vec![
        Success {
            rpc: "CreateGroup",
            run: |w| {
                Box::pin(async move {
                    let (b, a) = (w.role("B").await, w.role("A").await);
                    let trace = w.traced();
                    let request = create("  Ops\u{301} ", &[&b.id, &a.id]);
                    let group = w.groups.create_group(request).await.expect("created");
                    let group = group.into_inner().group.expect("the edit view");
                    // The response has what the edit page shows: the title, trimmed and in NFC, and all roles by name.
                    assert_eq!(group.title, "Opś");
                    let names: Vec<_> = group.roles.iter().map(|role| role.name.as_str()).collect();
                    assert_eq!(names, ["A", "B"]);
                    assert_eq!(group.user_count, 0);
                    assert!(group.create_time.is_some());
                    assert_eq!(group.create_time, group.update_time);
                    assert!(!group.etag.is_empty());
                    let uuid = group.id.parse::<sea_orm::prelude::Uuid>().expect("a UUID");
                    assert_eq!(uuid.get_version_num(), 7);
                    assert_eq!(uuid.to_string(), group.id);
                    w.trace(None);
                    assert_eq!(w.get_group(&group.id).await, group);
                    assert_eq!(w.get_role(&a.id).await.group_count, 1);
                    trace
                })
            },
        },
        Success {
            rpc: "GetGroup",
            run: |w| {
                Box::pin(async move {
                    let role = w.role("A").await;
                    let group = w.group("Ops", &[&role.id]).await;
                    let trace = w.traced();
                    // Ids are case-insensitive.
                    assert_eq!(w.get_group(&group.id.to_uppercase()).await, group);
                    assert!(trace.statements().await <= 3);
                    let again = w.traced();
                    assert_eq!(w.get_group(&group.id).await, group);
                    assert_eq!(again.statements().await, 0, "it is in memory by now");
                    trace
                })
            },
        },
        Success {
            rpc: "ListGroups",
            run: |w| {
                Box::pin(async move {
                    let role = w.role("A").await;
                    let ops = w.group("Ops", &[&role.id]).await;
                    let devs = w.group("Devs", &[&role.id]).await;
                    let trace = w.traced();
                    let request = pb::ListGroupsRequest {
                        with_total_size: true,
                        ..Default::default()
                    };
                    let list = w
                        .groups
                        .list_groups(request)
                        .await
                        .expect("listed")
                        .into_inner();
                    assert_eq!(list.groups, [devs, ops]);
                    assert_eq!(list.total_size, Some(2));
                    assert_eq!(list.next_page_token, "");
                    trace
                })
            },
        },
        Success {
            rpc: "UpdateGroup",
            run: |w| {
                Box::pin(async move {
                    let (a, b) = (w.role("A").await, w.role("B").await);
                    let before = w.group("Ops", &[&a.id]).await;
                    let trace = w.traced();
                    let request = pb::UpdateGroupRequest {
                        title: Some("Operations".into()),
                        add_role_ids: vec![b.id.clone()],
                        remove_role_ids: vec![a.id.clone()],
                        etag: before.etag.clone(),
                        ..update(&before.id)
                    };
                    let after = w.groups.update_group(request).await.expect("updated");
                    let after = after.into_inner().group.expect("a group");
                    assert_eq!(after.title, "Operations");
                    assert_eq!(after.roles.len(), 1);
                    assert_eq!(after.roles[0].id, b.id);
                    assert_ne!(after.etag, before.etag);
                    assert_eq!(after.create_time, before.create_time);
                    w.trace(None);
                    assert_eq!(w.get_group(&before.id).await, after);
                    assert_eq!(w.get_role(&a.id).await.group_count, 0);
                    assert_eq!(w.get_role(&b.id).await.group_count, 1);
                    trace
                })
            },
        },
        Success {
            rpc: "DeleteGroup",
            run: |w| {
                Box::pin(async move {
                    let (role, user) = (w.role("A").await, w.user("ann").await);
                    let group = w.group("Ops", &[&role.id]).await;
                    w.assign(&group.id, &user.id).await;
                    let trace = w.traced();
                    let request = pb::DeleteGroupRequest {
                        etag: group.etag,
                        ..delete(&group.id)
                    };
                    w.groups.delete_group(request).await.expect("deleted");
                    w.trace(None);
                    // The associations are deleted; the role and the user remain.
                    assert_eq!(w.get_role(&role.id).await, role);
                    let users = w.users.list_users(pb::ListUsersRequest::default()).await;
                    assert_eq!(users.expect("listed").into_inner().users, [user]);
                    trace
                })
            },
        },
        Success {
            rpc: "ListRolesInGroup",
            run: |w| {
                Box::pin(async move {
                    let (b, a) = (w.role("B").await, w.role("A").await);
                    w.role("C").await;
                    let group = w.group("Ops", &[&b.id, &a.id]).await;
                    let trace = w.traced();
                    let request = roles_in(&group.id);
                    let list = w.groups.list_roles_in_group(request).await.expect("listed");
                    let list = list.into_inner();
                    assert!(trace.statements().await <= 3);
                    w.trace(None);
                    let (a, b) = (w.get_role(&a.id).await, w.get_role(&b.id).await);
                    assert_eq!(list.roles, [a, b]);
                    assert_eq!(list.next_page_token, "");
                    // The call is read-only.
                    assert_eq!(w.get_group(&group.id).await, group);
                    trace
                })
            },
        },
    ]
}

pub(crate) fn failures() -> Vec<Failure> {
    vec![
        Failure {
            rpc: "CreateGroup",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let role = w.role("A").await;
                    let request = create("\u{7}", &[&role.id, "x", &role.id]);
                    let reported = expect_error(w.groups.create_group(request).await);
                    assert_eq!(reported.fields(), ["title", "role_ids[1]", "role_ids[2]"]);
                    assert!(
                        reported.violations[2].1.contains(&role.id),
                        "{reported:?} says which"
                    );
                    reported
                })
            },
        },
        Failure {
            rpc: "CreateGroup",
            reason: "ROLE_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    let role = w.role("A").await;
                    let (one, other) = (unknown_id(), unknown_id());
                    let request = create("Ops", &[&one, &role.id, &other]);
                    let reported = expect_error(w.groups.create_group(request).await);
                    assert_eq!(reported.metadata["role_ids"], format!("{one},{other}"));
                    // All or nothing.
                    let list = w.groups.list_groups(pb::ListGroupsRequest::default()).await;
                    assert_eq!(list.expect("listed").into_inner().groups, []);
                    assert_eq!(w.get_role(&role.id).await, role);
                    reported
                })
            },
        },
        Failure {
            rpc: "CreateGroup",
            reason: "GROUP_TITLE_TAKEN",
            run: |w| {
                Box::pin(async move {
                    let role = w.role("A").await;
                    w.group("Ops", &[&role.id]).await;
                    let reported =
                        expect_error(w.groups.create_group(create("ＯＰＳ", &[&role.id])).await);
                    assert_eq!(w.get_role(&role.id).await.group_count, 1);
                    reported
                })
            },
        },
        Failure {
            rpc: "GetGroup",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let request = pb::GetGroupRequest {
                        group_id: "7".into(),
                        ..Default::default()
                    };
                    let reported = expect_error(w.groups.get_group(request).await);
                    assert_eq!(reported.fields(), ["group_id"]);
                    reported
                })
            },
        },
        Failure {
            rpc: "GetGroup",
            reason: "GROUP_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    let absent = unknown_id();
                    let request = pb::GetGroupRequest {
                        group_id: absent.clone(),
                        ..Default::default()
                    };
                    let reported = expect_error(w.groups.get_group(request).await);
                    assert_eq!(reported.metadata["group_id"], absent);
                    assert_eq!(reported.resource, Some(("groups.v1.Group".into(), absent)));
                    reported
                })
            },
        },
        Failure {
            rpc: "ListGroups",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let request = pb::ListGroupsRequest {
                        page_size: -1,
                        query: "\u{1}".into(),
                        role_id: "r".into(),
                        user_id: "u".into(),
                        order_by: "size".into(),
                        ..Default::default()
                    };
                    let reported = expect_error(w.groups.list_groups(request).await);
                    let fields = ["query", "role_id", "user_id", "order_by", "page_size"];
                    assert_eq!(reported.fields(), fields);
                    reported
                })
            },
        },
        Failure {
            rpc: "UpdateGroup",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let (one, other) = (unknown_id(), unknown_id());
                    let request = pb::UpdateGroupRequest {
                        title: Some(String::new()),
                        add_role_ids: vec![one.clone(), other.clone()],
                        remove_role_ids: vec![other.clone()],
                        ..update("x")
                    };
                    let reported = expect_error(w.groups.update_group(request).await);
                    assert_eq!(
                        reported.fields(),
                        ["group_id", "title", "remove_role_ids[0]"]
                    );
                    assert!(
                        reported.violations[2].1.contains(&other),
                        "{reported:?} says which"
                    );
                    reported
                })
            },
        },
        Failure {
            rpc: "UpdateGroup",
            reason: "GROUP_NOT_FOUND",
            run: |w| {
                Box::pin(
                    async move { expect_error(w.groups.update_group(update(&unknown_id())).await) },
                )
            },
        },
        Failure {
            rpc: "UpdateGroup",
            reason: "ROLE_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    let role = w.role("A").await;
                    let group = w.group("Ops", &[&role.id]).await;
                    let (one, other) = (unknown_id(), unknown_id());
                    let request = pb::UpdateGroupRequest {
                        title: Some("Other".into()),
                        add_role_ids: vec![one.clone(), role.id, other.clone()],
                        ..update(&group.id)
                    };
                    let reported = expect_error(w.groups.update_group(request).await);
                    assert_eq!(reported.metadata["role_ids"], format!("{one},{other}"));
                    assert_eq!(w.get_group(&group.id).await, group);
                    reported
                })
            },
        },
        Failure {
            rpc: "UpdateGroup",
            reason: "GROUP_TITLE_TAKEN",
            run: |w| {
                Box::pin(async move {
                    let (a, b) = (w.role("A").await, w.role("B").await);
                    w.group("Ops", &[&a.id]).await;
                    let group = w.group("Devs", &[&a.id]).await;
                    let request = pb::UpdateGroupRequest {
                        title: Some("OPS".into()),
                        add_role_ids: vec![b.id.clone()],
                        ..update(&group.id)
                    };
                    let reported = expect_error(w.groups.update_group(request).await);
                    assert_eq!(w.get_group(&group.id).await, group);
                    assert_eq!(w.get_role(&b.id).await, b);
                    reported
                })
            },
        },
        Failure {
            rpc: "UpdateGroup",
            reason: "GROUP_NEEDS_ROLE",
            run: |w| {
                Box::pin(async move {
                    let (a, b) = (w.role("A").await, w.role("B").await);
                    let group = w.group("Ops", &[&a.id, &b.id]).await;
                    let request = pb::UpdateGroupRequest {
                        title: Some("Other".into()),
                        remove_role_ids: vec![a.id.clone(), b.id],
                        ..update(&group.id)
                    };
                    let reported = expect_error(w.groups.update_group(request).await);
                    assert_eq!(reported.preconditions.len(), 1);
                    assert_eq!(w.get_group(&group.id).await, group);
                    assert_eq!(w.get_role(&a.id).await.group_count, 1);
                    reported
                })
            },
        },
        Failure {
            rpc: "UpdateGroup",
            reason: "ETAG_MISMATCH",
            run: |w| {
                Box::pin(async move {
                    let role = w.role("A").await;
                    let group = w.group("Ops", &[&role.id]).await;
                    let rename = |title: &str| pb::UpdateGroupRequest {
                        title: Some(title.into()),
                        etag: group.etag.clone(),
                        ..update(&group.id)
                    };
                    w.groups
                        .update_group(rename("One"))
                        .await
                        .expect("the first editor wins");
                    let reported = expect_error(w.groups.update_group(rename("Other")).await);
                    assert_eq!(w.get_group(&group.id).await.title, "One");
                    reported
                })
            },
        },
        Failure {
            rpc: "DeleteGroup",
            reason: "INVALID_REQUEST",
            run: |w| Box::pin(async move { expect_error(w.groups.delete_group(delete("")).await) }),
        },
        Failure {
            rpc: "DeleteGroup",
            reason: "GROUP_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    let absent = unknown_id();
                    let request = pb::DeleteGroupRequest {
                        allow_missing: true,
                        ..delete(&absent)
                    };
                    w.groups
                        .delete_group(request)
                        .await
                        .expect("a success where that is allowed");
                    expect_error(w.groups.delete_group(delete(&absent)).await)
                })
            },
        },
        Failure {
            rpc: "DeleteGroup",
            reason: "ETAG_MISMATCH",
            run: |w| {
                Box::pin(async move {
                    let role = w.role("A").await;
                    let group = w.group("Ops", &[&role.id]).await;
                    let request = pb::DeleteGroupRequest {
                        etag: "0".into(),
                        ..delete(&group.id)
                    };
                    let reported = expect_error(w.groups.delete_group(request).await);
                    assert_eq!(w.get_group(&group.id).await, group);
                    reported
                })
            },
        },
        Failure {
            rpc: "ListRolesInGroup",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let request = pb::ListRolesInGroupRequest {
                        page_size: -7,
                        ..roles_in("g")
                    };
                    let reported = expect_error(w.groups.list_roles_in_group(request).await);
                    assert_eq!(reported.fields(), ["group_id", "page_size"]);
                    reported
                })
            },
        },
        Failure {
            rpc: "ListRolesInGroup",
            reason: "GROUP_NOT_FOUND",
            run: |w| {
                Box::pin(async move {
                    expect_error(w.groups.list_roles_in_group(roles_in(&unknown_id())).await)
                })
            },
        },
    ]
}

#[tokio::test]
async fn no_op_deltas_change_nothing() {
    let mut w = TestServer::start().await;
    let (a, b) = (w.role("A").await, w.role("B").await);
    let group = w.group("Ops", &[&a.id]).await;
    let request = pb::UpdateGroupRequest {
        title: Some("Ops".into()),
        // A role that the group has is added; a role that it doesn't have and one that doesn't exist are removed.
        add_role_ids: vec![a.id.clone()],
        remove_role_ids: vec![b.id, unknown_id()],
        ..update(&group.id)
    };
    let same = w
        .groups
        .update_group(request)
        .await
        .expect("no error")
        .into_inner()
        .group;
    assert_eq!(same, Some(group.clone()), "neither etag nor time change");
    assert_eq!(w.get_role(&a.id).await.group_count, 1);

    // The etag is checked even if nothing would change.
    let request = pb::UpdateGroupRequest {
        etag: "stale".into(),
        ..update(&group.id)
    };
    assert_eq!(
        expect_error(w.groups.update_group(request).await).reason,
        "ETAG_MISMATCH"
    );
}

#[tokio::test]
async fn concurrent_deltas_do_not_overwrite_each_other() {
    let mut w = TestServer::start().await;
    let (a, b, c) = (w.role("A").await, w.role("B").await, w.role("C").await);
    let group = w.group("Ops", &[&a.id]).await;
    // Both editors opened the page when the group had role A only.
    for add in [&b.id, &c.id] {
        let request = pb::UpdateGroupRequest {
            add_role_ids: vec![add.clone()],
            ..update(&group.id)
        };
        w.groups.update_group(request).await.expect("updated");
    }
    let names: Vec<_> = w
        .get_group(&group.id)
        .await
        .roles
        .into_iter()
        .map(|r| r.name)
        .collect();
    assert_eq!(names, ["A", "B", "C"]);
}

#[tokio::test]
async fn rename_may_change_only_case() {
    let mut w = TestServer::start().await;
    let role = w.role("A").await;
    let group = w.group("ops", &[&role.id]).await;
    let request = pb::UpdateGroupRequest {
        title: Some("Ops".into()),
        ..update(&group.id)
    };
    let renamed = w
        .groups
        .update_group(request)
        .await
        .expect("its own title is free to it");
    assert_eq!(renamed.into_inner().group.expect("a group").title, "Ops");
}

#[tokio::test]
async fn membership_does_not_change_group_etag() {
    let w = TestServer::start().await;
    let (role, user) = (w.role("A").await, w.user("ann").await);
    let group = w.group("Ops", &[&role.id]).await;
    w.assign(&group.id, &user.id).await;
    let expected = pb::Group {
        user_count: 1,
        ..group.clone()
    };
    assert_eq!(w.get_group(&group.id).await, expected);
}

#[tokio::test]
async fn pages_with_many_roles_are_truncated() {
    let w = TestServer::start().await;
    let mut roles = Vec::new();
    for number in 0..1000 {
        roles.push(w.role(&number.to_string()).await.id);
    }
    let roles: Vec<_> = roles.iter().map(String::as_str).collect();
    for number in 0..21 {
        let group = w.group(&format!("group {number:02}"), &roles[..100]).await;
        for more in roles[100..].chunks(100) {
            let request = pb::UpdateGroupRequest {
                group_id: group.id.clone(),
                add_role_ids: more.iter().map(ToString::to_string).collect(),
                ..Default::default()
            };
            let updated = w.groups.clone().update_group(request).await;
            updated.expect("updated");
        }
    }
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListGroupsRequest {
            page_size: 1000,
            page_token,
            ..Default::default()
        };
        let page = w.groups.clone().list_groups(request).await;
        let page = page.expect("listed").into_inner();
        assert!(page.groups.iter().all(|group| group.roles.len() == 1000));
        listed.push(page.groups.len());
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    // A page reads at most 20,000 roles at once.
    assert_eq!(listed, [20, 1]);
}

#[tokio::test]
async fn pages_stay_below_client_message_limit() {
    let mut w = TestServer::start().await;
    // 100 roles with names of 1,020 bytes: a group is 100 kB, and 60 groups are 6 MB.
    let mut roles = Vec::new();
    for number in 0..100 {
        let name: String = format!("{number:03}")
            .chars()
            .chain(std::iter::repeat_n('𝕏', 252))
            .collect();
        roles.push(w.role(&name).await.id);
    }
    let ids: Vec<_> = roles.iter().map(String::as_str).collect();
    for number in 0..60 {
        w.group(&format!("Group {number}"), &ids).await;
    }
    let mut request = pb::ListGroupsRequest {
        page_size: 1000,
        ..Default::default()
    };
    let mut titles = Vec::new();
    loop {
        let page = w
            .groups
            .list_groups(request.clone())
            .await
            .expect("within 4 MiB")
            .into_inner();
        assert!(!page.groups.is_empty());
        titles.extend(page.groups.into_iter().map(|group| group.title));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let expected: Vec<_> = (0..60).map(|number| format!("Group {number}")).collect();
    assert_eq!(titles, expected);
}

pub(crate) fn create(title: &str, role_ids: &[&str]) -> pb::CreateGroupRequest {
    let role_ids = role_ids.iter().map(ToString::to_string).collect();
    pb::CreateGroupRequest {
        title: title.into(),
        role_ids,
        ..Default::default()
    }
}

pub(crate) fn update(group_id: &str) -> pb::UpdateGroupRequest {
    pb::UpdateGroupRequest {
        group_id: group_id.into(),
        ..Default::default()
    }
}

pub(crate) fn delete(group_id: &str) -> pb::DeleteGroupRequest {
    pb::DeleteGroupRequest {
        group_id: group_id.into(),
        ..Default::default()
    }
}

fn roles_in(group_id: &str) -> pb::ListRolesInGroupRequest {
    pb::ListRolesInGroupRequest {
        group_id: group_id.into(),
        ..Default::default()
    }
}
