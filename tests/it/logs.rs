//! The log as JSON.

use std::collections::HashMap;

use crate::{
    group::create,
    harness::{Database, Process, Trace, binary, raw},
};

/// What a line has, each name once, as it is written: lines are flat.
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
async fn every_line_is_a_flat_object_of_json() {
    let database = Database::create().await;
    let mut command = binary();
    command
        .args(["--listen", "127.0.0.1:0", "--log", "info"])
        .args(["--log-format", "json", "--insecure"])
        .args(["--database-url", database.url()]);
    let server = Process::spawn(command).await;
    let channel = server.connect().await;
    let trace = Trace::new();
    // What would break a line that isn't escaped, or leave the server.
    let title = "Secret \"title\"\n{}";
    let message = prost::Message::encode_to_vec(&create(title, &["x"]));
    let mut request = tonic::Request::new(message);
    let parent = trace.parent().parse().expect("ASCII");
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
        ("trace_id", &trace.parent()[3..35]),
    ] {
        assert_eq!(call.get(name).map(String::as_str), Some(value), "{call:?}");
    }
    let took: f64 = call["duration_ms"].parse().expect("a number");
    assert!(took > 0.0, "{call:?}");
    assert!(!call.contains_key("error"), "what isn't there has no name");
}
