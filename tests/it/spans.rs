//! What is seen of a call: its span, its line in the log, and an error's cause, once.

use group_service::pb;
use opentelemetry::trace::Status;

use crate::{
    group::create,
    harness::{Database, Process, Trace, World, id, raw},
};

#[tokio::test]
async fn a_failed_call_is_seen_with_its_code() {
    let mut w = World::start().await;
    let trace = w.traced();
    let request = pb::GetGroupRequest {
        group_id: id(),
        ..Default::default()
    };
    w.groups.get_group(request).await.expect_err("not found");
    let spans = trace.spans().await;
    let server = spans.last().expect("a span");
    assert_eq!(
        server.attribute("rpc.response.status_code").as_deref(),
        Some("NOT_FOUND")
    );
    // Not found is the caller's error, not the server's.
    assert_eq!(server.attribute("error.type"), None);
    assert_eq!(server.status, Status::Unset);
}

#[tokio::test]
async fn an_outage_is_an_error_of_the_server() {
    let mut w = World::start().await;
    w.db.clone().close().await;
    let trace = w.traced();
    let request = pb::GetGroupRequest {
        group_id: id(),
        ..Default::default()
    };
    w.groups.get_group(request).await.expect_err("unavailable");
    let spans = trace.spans().await;
    let server = spans.last().expect("a span");
    assert_eq!(
        server.attribute("rpc.response.status_code").as_deref(),
        Some("UNAVAILABLE")
    );
    assert_eq!(
        server.attribute("error.type").as_deref(),
        Some("UNAVAILABLE")
    );
    assert!(
        matches!(server.status, Status::Error { .. }),
        "{:?}",
        server.status
    );
}

#[tokio::test]
async fn calls_of_unknown_methods_are_counted_together() {
    let w = World::start().await;
    let trace = Trace::new();
    let mut request = tonic::Request::new(Vec::new());
    request
        .metadata_mut()
        .insert("traceparent", trace.parent().parse().expect("ASCII"));
    let path = "/groups.v1.GroupService/Invented";
    raw::send(&w.channel, path, request)
        .await
        .expect_err("unimplemented");
    let spans = trace.spans().await;
    let server = spans.last().expect("a span");
    assert_eq!(server.name, "_OTHER");
    assert_eq!(server.attribute("rpc.method").as_deref(), Some("_OTHER"));
    let original = server.attribute("rpc.method_original");
    assert_eq!(original.as_deref(), Some("groups.v1.GroupService/Invented"));
}

#[tokio::test]
async fn every_call_is_one_line_in_the_log() {
    let database = Database::create().await;
    let server = Process::start(database.url()).await;
    let channel = server.connect().await;
    let trace = Trace::new();
    for (path, message) in [
        ("/groups.v1.RoleService/ListRoles", Vec::new()),
        (
            "/groups.v1.GroupService/CreateGroup",
            prost::Message::encode_to_vec(&create("Secret", &["x"])),
        ),
        ("/grpc.health.v1.Health/Check", Vec::new()),
    ] {
        let mut request = tonic::Request::new(message);
        request
            .metadata_mut()
            .insert("traceparent", trace.parent().parse().expect("ASCII"));
        let _ = raw::send(&channel, path, request).await;
    }
    let log = server.stop().await;
    let lines: Vec<_> = log
        .lines()
        .filter(|line| line.contains("group_service::call"))
        .collect();
    let [list, create] = lines[..] else {
        panic!("{log}")
    };
    let trace_id = trace.parent()[3..35].to_owned();
    for (line, method, code) in [
        (list, "groups.v1.RoleService/ListRoles", "OK"),
        (
            create,
            "groups.v1.GroupService/CreateGroup",
            "INVALID_ARGUMENT",
        ),
    ] {
        for part in [
            " INFO ",
            &format!("rpc.method={method} "),
            &format!("rpc.response.status_code={code} "),
            "duration_ms=",
            "network.peer.address=127.0.0.1 ",
            "network.peer.port=",
            &format!("trace_id={trace_id}"),
        ] {
            assert!(line.contains(part), "no {part} in {line}");
        }
    }
    // What people typed is theirs.
    assert!(!log.contains("Secret"), "{log}");
}

#[tokio::test]
async fn a_deadline_is_answered_as_such_and_the_write_is_carried_out() {
    let w = World::start().await;
    // Another process holds the database: the write waits, longer than its caller does.
    let other = crate::harness::hold(&w.database).await;
    let trace = Trace::new();
    let message = pb::CreateRoleRequest {
        name: "Late".into(),
        ..Default::default()
    };
    let message = prost::Message::encode_to_vec(&message);
    let headers = [
        ("traceparent", trace.parent()),
        ("grpc-timeout", "50m".to_owned()),
    ];
    let path = "/groups.v1.RoleService/CreateRole";
    let told = crate::harness::told(raw::bare(w.address, path, &headers, message).await);
    assert_eq!(
        (told.code, &*told.reason),
        (tonic::Code::DeadlineExceeded, "DEADLINE_EXCEEDED")
    );
    other.release().await;
    let spans = trace.spans().await;
    let server = spans
        .iter()
        .find(|span| span.name.starts_with("groups.v1."));
    let code = server
        .expect("a span")
        .attribute("rpc.response.status_code");
    assert_eq!(code.as_deref(), Some("DEADLINE_EXCEEDED"));

    // Writes are carried out in turn: behind this one, the late one is done.
    w.role("Next").await;
    let list = w
        .roles
        .clone()
        .list_roles(pb::ListRolesRequest::default())
        .await;
    let roles = list.expect("listed").into_inner().roles;
    let names: Vec<_> = roles.into_iter().map(|role| role.name).collect();
    assert_eq!(names, ["Late", "Next"]);
}
