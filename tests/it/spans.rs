//! Spans and log lines of calls; the cause of an error is logged once.

use group_service::pb;
use opentelemetry::trace::Status;

use crate::{
    group::create,
    harness::{Database, Process, TestServer, Trace, raw, unknown_id},
};

#[tokio::test]
async fn failed_call_span_has_status_code() {
    let mut w = TestServer::start().await;
    let trace = w.traced();
    let request = pb::GetGroupRequest {
        group_id: unknown_id(),
        ..Default::default()
    };
    w.groups.get_group(request).await.expect_err("not found");
    let spans = trace.spans().await;
    let server = spans.last().expect("a span");
    assert_eq!(
        server.attribute("rpc.response.status_code").as_deref(),
        Some("NOT_FOUND")
    );
    // NOT_FOUND is a client error, not a server error.
    assert_eq!(server.attribute("error.type"), None);
    assert_eq!(server.status, Status::Unset);
}

#[tokio::test]
async fn database_outage_is_a_server_error_in_spans() {
    let mut w = TestServer::start().await;
    w.db.clone().close().await;
    let trace = w.traced();
    let request = pb::GetGroupRequest {
        group_id: unknown_id(),
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
async fn unknown_methods_share_one_span_name() {
    let w = TestServer::start().await;
    let trace = Trace::new();
    let mut request = tonic::Request::new(Vec::new());
    request
        .metadata_mut()
        .insert("traceparent", trace.traceparent().parse().expect("ASCII"));
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
async fn every_call_logs_one_line() {
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
            .insert("traceparent", trace.traceparent().parse().expect("ASCII"));
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
    let trace_id = trace.traceparent()[3..35].to_owned();
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
    // Text entered by people must not be logged.
    assert!(!log.contains("Secret"), "{log}");
}

#[tokio::test]
async fn write_completes_after_deadline_exceeded() {
    let w = TestServer::start().await;
    // Another process holds the write lock: the write waits longer than the caller's deadline.
    let other = crate::harness::lock_writes(&w.database).await;
    let trace = Trace::new();
    let message = pb::CreateRoleRequest {
        name: "Late".into(),
        ..Default::default()
    };
    let message = prost::Message::encode_to_vec(&message);
    let headers = [
        ("traceparent", trace.traceparent()),
        ("grpc-timeout", "50m".to_owned()),
    ];
    let path = "/groups.v1.RoleService/CreateRole";
    let reported = crate::harness::expect_error(
        raw::call_without_grpc_client(w.address, path, &headers, message).await,
    );
    assert_eq!(
        (reported.code, &*reported.reason),
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

    // Writes execute in order: when this one is done, so is the late one.
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
