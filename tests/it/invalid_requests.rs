//! Invalid requests are rejected with a specific code, and the connection stays usable.

use group_service::pb;
use tonic::{Code, transport::Channel};

use crate::{
    group::{create, update},
    harness::{
        TestServer, expect_error,
        raw::{self, methods, path},
        unknown_id,
    },
};

#[tokio::test]
async fn all_field_violations_are_reported_together() {
    let mut w = TestServer::start().await;
    let role = w.role("A").await.id;
    let ids = |count| (0..count).map(|_| unknown_id()).collect::<Vec<_>>();

    for (request, fields) in [
        (create("", &[]), &["title", "role_ids"][..]),
        (
            create(&"x".repeat(256), &["", "not-a-uuid"]),
            &["title", "role_ids[0]", "role_ids[1]"],
        ),
        (
            pb::CreateGroupRequest {
                title: "Ops".into(),
                role_ids: ids(101),
                ..Default::default()
            },
            &["role_ids"],
        ),
        (
            create("Ops", &[&role, &role.to_uppercase()]),
            &["role_ids[1]"],
        ),
        (create("Ops", &[&role.replace('-', "")]), &["role_ids[0]"]),
        (
            create("Ops", &[&format!("urn:uuid:{role}")]),
            &["role_ids[0]"],
        ),
    ] {
        let reported = expect_error(w.groups.create_group(request.clone()).await);
        assert_eq!(
            (reported.code, reported.fields()),
            (Code::InvalidArgument, fields.to_vec()),
            "{request:?}"
        );
    }

    let group = w.group("Ops", &[&role]).await.id;
    let twice = unknown_id();
    for (request, fields) in [
        (
            pb::UpdateGroupRequest {
                add_role_ids: ids(101),
                remove_role_ids: ids(101),
                ..update(&group)
            },
            &["add_role_ids", "remove_role_ids"][..],
        ),
        (
            pb::UpdateGroupRequest {
                add_role_ids: vec![twice.clone(); 3],
                ..update(&group)
            },
            &["add_role_ids[1]", "add_role_ids[2]"],
        ),
        (
            pb::UpdateGroupRequest {
                add_role_ids: vec![twice.clone()],
                remove_role_ids: vec![role.clone(), twice.clone()],
                ..update(&group)
            },
            &["remove_role_ids[1]"],
        ),
        (
            pb::UpdateGroupRequest {
                title: Some("\u{1}".into()),
                add_role_ids: vec!["x".into()],
                ..update("")
            },
            &["group_id", "title", "add_role_ids[0]"],
        ),
    ] {
        let reported = expect_error(w.groups.update_group(request.clone()).await);
        assert_eq!(
            (reported.code, reported.fields()),
            (Code::InvalidArgument, fields.to_vec()),
            "{request:?}"
        );
    }

    for order_by in [
        "id",
        "title asc",
        "title,create_time",
        "TITLE",
        "title desc desc",
        "desc",
        "create_time  desc x",
    ] {
        let request = pb::ListGroupsRequest {
            order_by: order_by.into(),
            ..Default::default()
        };
        assert_eq!(
            expect_error(w.groups.list_groups(request).await).fields(),
            ["order_by"],
            "{order_by}"
        );
    }
    for order_by in [
        "",
        " title ",
        "title  desc",
        "create_time",
        "create_time desc",
    ] {
        let request = pb::ListGroupsRequest {
            order_by: order_by.into(),
            ..Default::default()
        };
        w.groups.list_groups(request).await.expect(order_by);
    }
}

#[tokio::test]
async fn many_violations_are_truncated_to_fit_headers() {
    let mut w = TestServer::start().await;
    let user_ids: Vec<_> = (0..1000).map(|number| format!("user {number}")).collect();
    let request = pb::BatchAssignUsersRequest {
        group_id: unknown_id(),
        user_ids,
        ..Default::default()
    };
    let reported = expect_error(w.groups.batch_assign_users(request).await);
    assert!(reported.violations.len() > 50, "{reported:?}");
    let (_, last) = reported.violations.last().expect("violations");
    let left = 1000 - (reported.violations.len() - 1);
    assert_eq!(*last, format!("and {left} more violations"));
    let listed = reported.violations.len() - 1;
    let count = format!("(the first of 1000 violations: the details list {listed} of them)");
    assert!(reported.message.ends_with(&count), "{}", reported.message);
}

#[tokio::test]
async fn malformed_requests_are_rejected_and_connection_survives() {
    let w = TestServer::start().await;
    for method in methods() {
        let path = path(&method);
        for (what, bytes) in [
            ("no protobuf", b"{\"title\":\"Ops\"}".to_vec()),
            ("cut short", vec![0x0a, 0x05, b'a']),
            (
                "a wrong wire type in every field",
                (1..=7).flat_map(|n| [n << 3 | 5, 0, 0, 0, 0]).collect(),
            ),
            ("an endless varint", vec![0xff; 32]),
        ] {
            let reported = expect_error(raw::call(&w.channel, &path, bytes).await);
            assert_eq!(
                (reported.code, &*reported.reason),
                (Code::InvalidArgument, "INVALID_REQUEST"),
                "{what} to {path}"
            );
        }
        // Unknown fields of newer clients are ignored.
        let mut newer = raw::valid_request(&method);
        newer.extend([0xfa, 0x3f, 0x01, b'x']);
        if let Err(status) = raw::call(&w.channel, &path, newer).await {
            assert_ne!(status.code(), Code::InvalidArgument, "{path}: {status:?}");
        }
        alive(&w.channel).await;
    }
}

#[tokio::test]
async fn non_utf8_text_is_rejected() {
    let w = TestServer::start().await;
    let path = "/groups.v1.GroupService/CreateGroup";
    let reported = expect_error(raw::call(&w.channel, path, vec![0x0a, 0x02, 0xc3, 0x28]).await);
    assert_eq!(reported.code, Code::InvalidArgument);
    alive(&w.channel).await;
}

#[tokio::test]
async fn messages_over_4_mib_are_rejected() {
    let mut w = TestServer::start().await;
    let huge = create(&"x".repeat(4 * 1024 * 1024), &[]);
    let refused = expect_error(w.groups.create_group(huge).await);
    assert_eq!(
        (refused.code, &*refused.reason),
        (Code::ResourceExhausted, "MESSAGE_TOO_LARGE")
    );
    alive(&w.channel).await;
    // A request just below the limit is decoded and validated.
    let large = create(&"x".repeat(4 * 1024 * 1024 - 100), &[]);
    let refused = expect_error(w.groups.create_group(large).await);
    assert_eq!(refused.fields(), ["title", "role_ids"]);
    assert!(refused.message.len() < 200, "{}", refused.message);
    alive(&w.channel).await;
}

#[tokio::test]
async fn unknown_method_is_unimplemented() {
    let w = TestServer::start().await;
    for path in [
        "/groups.v1.GroupService/DropGroups",
        "/groups.v2.GroupService/GetGroup",
        "/x/y",
    ] {
        let reported = expect_error(raw::call(&w.channel, path, Vec::new()).await);
        assert_eq!(reported.code, Code::Unimplemented, "{path}");
        alive(&w.channel).await;
    }
}

/// Checks that the connection is still usable.
async fn alive(channel: &Channel) {
    let path = "/groups.v1.RoleService/ListRoles";
    raw::call(channel, path, Vec::new())
        .await
        .expect("the connection lives on");
}
