//! What Prometheus is told.

use std::collections::HashMap;

use group_service::pb;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::harness::{Process, binary};

/// Asks for a path over HTTP: head and body.
async fn ask(address: &str, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

/// The samples by name.
async fn told(address: &str) -> HashMap<String, f64> {
    let (head, body) = ask(address, "/metrics").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(head.contains("application/openmetrics-text"), "{head}");
    assert!(body.trim_end().ends_with("# EOF"), "{body}");
    let samples = body.lines().filter(|line| !line.starts_with('#'));
    samples
        .map(|line| {
            let (name, value) = line.split_once(' ').expect("a sample");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

#[tokio::test]
async fn prometheus_is_told_how_fresh_memory_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", dir.path().join("metrics.db").display());
    let mut command = binary();
    command
        .args(["--listen", "127.0.0.1:0", "--database-url", &url])
        .args(["--metrics-listen", "127.0.0.1:0"]);
    let server = Process::spawn(command).await;
    let metrics = server.start_line.split_once("metrics on http://");
    let metrics = metrics.and_then(|(_, rest)| rest.split_once("/metrics;"));
    let (address, _) = metrics.unwrap_or_else(|| panic!("{}", server.start_line));

    let before = told(address).await;
    assert_eq!(before["group_service_cache_answers_total"], 0.0);
    let (mut groups, mut roles, _) = server.clients().await;
    let request = pb::CreateRoleRequest {
        name: "Clerk".into(),
        ..Default::default()
    };
    let role = roles.create_role(request).await.expect("created");
    let request = pb::CreateGroupRequest {
        title: "Till".into(),
        role_ids: vec![role.into_inner().role.expect("a role").id],
        ..Default::default()
    };
    let group = groups.create_group(request).await.expect("created");
    let request = pb::GetGroupRequest {
        group_id: group.into_inner().group.expect("a group").id,
        ..Default::default()
    };
    for _ in 0..3 {
        let answer = groups.get_group(request.clone()).await;
        answer.expect("answered");
    }
    let unknown = pb::GetGroupRequest {
        group_id: crate::harness::id(),
        ..Default::default()
    };
    groups.get_group(unknown).await.expect_err("unknown");

    let after = told(address).await;
    for (name, more) in [
        ("revision", 2.0),
        ("cache_answers_total", 3.0),
        ("cache_misses_total", 1.0),
        ("write_retries_total", 0.0),
        ("insecure", 0.0),
    ] {
        let name = format!("group_service_{name}");
        assert_eq!(after[&name], before[&name] + more, "{name}");
    }
    let count = |told: &HashMap<String, f64>, code: &str| {
        let labels = format!(
            "rpc_method=\"groups.v1.GroupService/GetGroup\",rpc_response_status_code=\"{code}\""
        );
        let name = format!("rpc_server_call_duration_seconds_count{{{labels}}}");
        told.get(&name).copied().unwrap_or_default()
    };
    assert_eq!(count(&before, "OK"), 0.0);
    assert_eq!(count(&after, "OK"), 3.0);
    assert_eq!(count(&after, "NOT_FOUND"), 1.0);
    assert_eq!(after["group_service_calls_in_flight"], 0.0);
    assert_eq!(after["group_service_cache_behind_revisions"], 0.0);
    assert!(after["group_service_revision_age_seconds"] >= 0.0);
    for name in ["cache_size_bytes", "cache_loads_total"] {
        let name = format!("group_service_{name}");
        assert!(after[&name] > before[&name], "{name}");
    }
    for (path, wanted) in [("/livez", "alive\n"), ("/readyz", "ready\n")] {
        let (head, body) = ask(address, path).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(body, wanted);
    }
    let (head, _) = ask(address, "/").await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    server.stop().await;
}
