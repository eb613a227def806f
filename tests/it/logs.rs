//! JSON log lines, and dropped lines when standard error isn't read.

use std::{collections::HashMap, time::Duration};

use group_service::pb;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt},
    task::JoinSet,
    time::timeout,
};

use crate::{
    group::create,
    harness::{Database, Process, Trace, binary, raw},
    metrics,
};

/// Parses the fields of a flat JSON line; panics if a name occurs twice.
fn fields(line: &str) -> HashMap<String, String> {
    let line: serde_json::Value = line.parse().unwrap_or_else(|_| panic!("no JSON: {line}"));
    let object = line.as_object().expect("an object");
    let fields = object.iter().map(|(name, value)| {
        assert!(!value.is_object() && !value.is_array(), "{line}");
        let text = value.as_str().map(str::to_owned);
        (name.clone(), text.unwrap_or_else(|| value.to_string()))
    });
    fields.collect()
}

#[tokio::test]
async fn json_log_lines_are_flat_objects() {
    let database = Database::create().await;
    let mut command = binary();
    command
        .args(["--listen", "127.0.0.1:0", "--log", "info"])
        .args(["--log-format", "json", "--insecure"])
        .args(["--database-url", database.url()]);
    let server = Process::spawn(command).await;
    let channel = server.connect().await;
    let trace = Trace::new();
    // Characters that must be escaped, in a text that must not be logged.
    let title = "Secret \"title\"\n{}";
    let message = prost::Message::encode_to_vec(&create(title, &["x"]));
    let mut request = tonic::Request::new(message);
    let parent = trace.traceparent().parse().expect("ASCII");
    request.metadata_mut().insert("traceparent", parent);
    let path = "/groups.v1.GroupService/CreateGroup";
    raw::send(&channel, path, request)
        .await
        .expect_err("no such role");
    let log = server.stop().await;
    assert!(!log.contains("Secret"), "{log}");
    let lines: Vec<_> = log.lines().map(fields).collect();
    for line in &lines {
        for name in ["timestamp", "level", "target", "message"] {
            assert!(line.contains_key(name), "{line:?}");
        }
        let time = &line["timestamp"];
        assert!(
            time.len() == 27 && time.ends_with('Z') && time.as_bytes()[10] == b'T',
            "{time}"
        );
    }
    let levels: Vec<_> = lines.iter().map(|line| &*line["level"]).collect();
    assert!(levels.contains(&"WARN"), "--insecure warns: {log}");
    let call = lines
        .iter()
        .find(|line| line["target"] == "group_service::call")
        .expect("a call");
    for (name, value) in [
        ("level", "INFO"),
        ("message", "call"),
        ("rpc.method", "groups.v1.GroupService/CreateGroup"),
        ("rpc.response.status_code", "INVALID_ARGUMENT"),
        ("network.peer.address", "127.0.0.1"),
        ("trace_id", &trace.traceparent()[3..35]),
    ] {
        assert_eq!(call.get(name).map(String::as_str), Some(value), "{call:?}");
    }
    let took: f64 = call["duration_ms"].parse().expect("a number");
    assert!(took > 0.0, "{call:?}");
    assert!(!call.contains_key("error"), "what isn't there has no name");
}

/// Makes calls, which must all succeed, until the server has dropped log lines.
async fn call_until_lines_are_dropped(server: &Process) -> f64 {
    let metrics_address = metrics::address(server);
    let dropped =
        async || metrics::samples(&metrics_address).await["group_service_log_lines_dropped_total"];
    let before = dropped().await;
    loop {
        let mut callers = JoinSet::new();
        for _ in 0..8 {
            let (mut groups, ..) = server.clients().await;
            callers.spawn(async move {
                for _ in 0..50 {
                    let request = pb::ListGroupsRequest::default();
                    groups.list_groups(request).await.expect("answered");
                }
            });
        }
        let called = timeout(Duration::from_secs(120), callers.join_all()).await;
        called.expect("every call is answered although the log isn't read");
        let now = dropped().await;
        if now > before {
            return now - before;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_log_blocks_neither_calls_nor_shutdown() {
    let database = Database::create().await;
    let mut command = binary();
    command
        .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
        // Several log lines per call.
        .args(["--log", "debug", "--database-url", database.url()]);
    let (server, mut log) = Process::spawn_with_unread_log(command).await;
    let dropped = call_until_lines_are_dropped(&server).await;

    // Once it is read again, the log says how many lines were dropped.
    let mut line = String::new();
    let wait_for_log = async {
        let (mut said, mut resumed) = (0.0, String::new());
        while said < dropped {
            line.clear();
            assert!(log.read_line(&mut line).await.expect("text") > 0, "it ends");
            if let Some((_, count)) = line.split_once("lines.dropped=") {
                said += count.trim().parse::<f64>().expect("a number");
                resumed.clone_from(&line);
            }
        }
        resumed
    };
    let resumed = timeout(Duration::from_secs(120), wait_for_log).await;
    let resumed = resumed.expect("it says how many lines were dropped");
    assert!(resumed.contains(" WARN "), "{resumed}");

    call_until_lines_are_dropped(&server).await;
    let address = metrics::address(&server);
    for path in ["/livez", "/readyz"] {
        let (head, _) = metrics::ask(&address, path, "*/*").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    }
    server.signal("TERM").await;
    let (status, _) = server.wait_for_exit().await;
    assert_eq!(status.code(), Some(0));
    // All lines written so far are complete, except possibly the last one.
    let mut rest = Vec::new();
    log.read_to_end(&mut rest).await.expect("read");
    assert!(!rest.is_empty());
}
