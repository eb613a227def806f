//! The metrics endpoint.

use std::{collections::HashMap, process::Stdio, time::Duration};

use group_service::pb;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::{Instant, sleep},
};

use crate::harness::{Process, binary, skip_test};

const OPEN_METRICS: &str = "application/openmetrics-text";

/// The address of a server's metrics port.
pub(crate) fn address(server: &Process) -> String {
    let metrics = server.start_line.split_once("metrics on http://");
    let metrics = metrics.and_then(|(_, rest)| rest.split_once("/metrics;"));
    let (address, _) = metrics.unwrap_or_else(|| panic!("{}", server.start_line));
    address.to_owned()
}

/// Gets a path over HTTP; returns head and body.
pub(crate) async fn ask(address: &str, path: &str, accept: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("text");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.to_owned(), body.to_owned())
}

/// The samples by name.
pub(crate) async fn samples(address: &str) -> HashMap<String, f64> {
    let (head, body) = ask(address, "/metrics", OPEN_METRICS).await;
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
async fn metrics_report_cache_staleness() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", dir.path().join("metrics.db").display());
    let mut command = binary();
    command
        .args(["--listen", "127.0.0.1:0", "--database-url", &url])
        .args(["--metrics-listen", "127.0.0.1:0"]);
    let server = Process::spawn(command).await;
    let address = &*address(&server);

    let before = samples(address).await;
    assert_eq!(before["group_service_cache_hits_total"], 0.0);
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
        group_id: crate::harness::unknown_id(),
        ..Default::default()
    };
    groups.get_group(unknown).await.expect_err("unknown");

    let after = samples(address).await;
    for (name, more) in [
        ("revision", 2.0),
        ("cache_hits_total", 3.0),
        ("cache_misses_total", 1.0),
        ("write_retries_total", 0.0),
        ("insecure", 0.0),
    ] {
        let name = format!("group_service_{name}");
        assert_eq!(after[&name], before[&name] + more, "{name}");
    }
    let count = |reported: &HashMap<String, f64>, code: &str| {
        let labels = format!(
            "rpc_method=\"groups.v1.GroupService/GetGroup\",rpc_response_status_code=\"{code}\""
        );
        let name = format!("rpc_server_call_duration_seconds_count{{{labels}}}");
        reported.get(&name).copied().unwrap_or_default()
    };
    assert_eq!(count(&before, "OK"), 0.0);
    assert_eq!(count(&after, "OK"), 3.0);
    assert_eq!(count(&after, "NOT_FOUND"), 1.0);
    assert_eq!(after["group_service_calls_in_flight"], 0.0);
    assert_eq!(after["group_service_cache_lag_revisions"], 0.0);
    assert!(after["group_service_staleness_seconds"] >= 0.0);
    for name in ["cache_size_bytes", "cache_loads_total"] {
        let name = format!("group_service_{name}");
        assert!(after[&name] > before[&name], "{name}");
    }
    for (path, wanted) in [("/livez", "alive\n"), ("/readyz", "ready\n")] {
        let (head, body) = ask(address, path, "*/*").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(body, wanted);
    }
    let (head, _) = ask(address, "/", "*/*").await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    server.stop().await;
}

#[tokio::test]
async fn metrics_report_database_and_watchers() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", dir.path().join("metrics.db").display());
    let mut command = binary();
    command
        .args(["--listen", "127.0.0.1:0", "--database-url", &url])
        .args(["--metrics-listen", "127.0.0.1:0"]);
    let server = Process::spawn(command).await;
    let address = &*address(&server);
    let before = samples(address).await;
    let statements = |reported: &HashMap<String, f64>, operation: &str| {
        let name = "group_service_statement_duration_seconds_count";
        reported[&format!("{name}{{operation=\"{operation}\"}}")]
    };
    let (_, mut roles, _) = server.clients().await;
    let request = pb::CreateRoleRequest {
        name: "Clerk".into(),
        ..Default::default()
    };
    roles.create_role(request).await.expect("created");
    let list = pb::ListRolesRequest::default();
    roles.list_roles(list).await.expect("listed");
    let after = samples(address).await;
    for operation in ["begin", "commit", "select", "insert", "update"] {
        let (before, after) = (
            statements(&before, operation),
            statements(&after, operation),
        );
        assert!(after > before, "{operation}: {before}, {after}");
    }
    for operation in ["delete", "other"] {
        assert!(statements(&after, operation) >= 0.0);
    }
    let connections = |pool: &str| {
        let states = ["idle", "busy"];
        let states = states.map(|state| format!("pool=\"{pool}\",state=\"{state}\""));
        let states =
            states.map(|labels| after[&format!("group_service_pool_connections{{{labels}}}")]);
        states.into_iter().sum::<f64>()
    };
    assert_eq!(connections("write"), 1.0);
    assert!(connections("read") >= 1.0);
    for (name, value) in [
        ("database_available", 1.0),
        ("watchers", 0.0),
        ("watcher_lag_revisions", 0.0),
        ("spans_dropped_total", 0.0),
    ] {
        assert_eq!(after[&format!("group_service_{name}")], value, "{name}");
    }
    let without_tls = after.keys().any(|name| name.contains("certificate"));
    assert!(!without_tls, "{after:?}");

    let channel = server.connect().await;
    let mut changes = pb::change_service_client::ChangeServiceClient::new(channel);
    let follow = changes.watch_changes(pb::WatchChangesRequest::default());
    let feed = follow.await.expect("followed");
    until(address, "group_service_watchers", |followers| {
        followers == 1.0
    })
    .await;
    drop(feed);
    until(address, "group_service_watchers", |followers| {
        followers == 0.0
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn metrics_report_certificate_expiry() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let put = |year| {
        let names = ["localhost".to_owned()];
        let mut params = rcgen::CertificateParams::new(names).expect("valid");
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        std::fs::write(file("tls.crt"), certificate.pem()).expect("written");
        std::fs::write(file("tls.key"), key.serialize_pem()).expect("written");
    };
    // X.509 encodes years from 2050 on in another format.
    put(2049);
    let mut command = binary();
    command
        .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
        .args(["--database-url", &format!("sqlite:{}", file("tls.db"))])
        .args(["--tls-certificate", &file("tls.crt")])
        .args(["--tls-key", &file("tls.key")]);
    let server = Process::spawn(command).await;
    let address = &*address(&server);
    let name = "group_service_tls_certificate_expiry_timestamp_seconds";
    assert_eq!(samples(address).await[name], 2_493_072_000.0);
    put(2100);
    server.signal("HUP").await;
    until(address, name, |expires| expires == 4_102_444_800.0).await;
    server.stop().await;
}

/// Waits until the value of a metric satisfies a condition.
async fn until(address: &str, name: &str, wanted: impl Fn(f64) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let value = samples(address).await[name];
        if wanted(value) {
            return;
        }
        assert!(Instant::now() < deadline, "{name}: {value}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn metrics_pass_promtool_check() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", dir.path().join("metrics.db").display());
    let mut command = binary();
    command
        .args(["--listen", "127.0.0.1:0", "--database-url", &url])
        .args(["--metrics-listen", "127.0.0.1:0"]);
    let server = Process::spawn(command).await;
    let (mut groups, ..) = server.clients().await;
    let list = pb::ListGroupsRequest::default();
    groups.list_groups(list).await.expect("listed");
    let (head, plain) = ask(&address(&server), "/metrics", "*/*").await;
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
    assert!(plain.contains("rpc_server_call_duration_seconds_bucket"));
    server.stop().await;
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut promtool = match promtool {
        Ok(promtool) => promtool,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return skip_test("metrics_pass_promtool_check", "there is no promtool");
        }
        Err(error) => panic!("{error}"),
    };
    let mut input = promtool.stdin.take().expect("piped");
    input.write_all(plain.as_bytes()).await.expect("written");
    drop(input);
    let found = promtool.wait_with_output().await.expect("it ends");
    let said = String::from_utf8_lossy(&[found.stdout, found.stderr].concat()).into_owned();
    assert!(found.status.success() && said.is_empty(), "{said}\n{plain}");
}
