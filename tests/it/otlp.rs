//! Spans as received by an OpenTelemetry Collector.

use std::{collections::HashMap, net::TcpListener, path::Path, process::Stdio, time::Duration};

use group_service::pb;
use prost::Message;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    process::{Child, Command},
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tonic::{Request, transport::Channel};

use crate::{
    harness::{Database, Process, Trace, binary, raw, skip_test},
    metrics::{address, samples},
    settings::output,
};

const COLLECTOR: &str = "group-service-collector";
const TIMEOUT: Duration = Duration::from_secs(30);

/// A collector that prints the spans it receives.
struct Collector {
    child: Child,
    endpoint: String,
    written: JoinHandle<String>,
}

impl Collector {
    /// Starts a collector, with TLS if a certificate is given; `None` if it isn't installed.
    async fn start(dir: &Path, certificate: Option<&Path>) -> Option<Self> {
        let free = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let (scheme, tls) = match certificate {
            None => ("http", String::new()),
            Some(path) => {
                let file = |ending| path.with_extension(ending).display().to_string();
                let (certificate, key) = (file("crt"), file("key"));
                let tls = format!(", tls: {{cert_file: '{certificate}', key_file: '{key}'}}");
                ("https", tls)
            }
        };
        let config = format!(
            "receivers: {{otlp: {{protocols: {{grpc: {{endpoint: '{address}'{tls}}}}}}}}}\n\
             exporters: {{debug: {{verbosity: detailed}}}}\n\
             service:\n  telemetry: {{metrics: {{level: none}}}}\n  \
             pipelines: {{traces: {{receivers: [otlp], exporters: [debug]}}}}\n"
        );
        let path = dir.join("collector.yaml");
        std::fs::write(&path, config).expect("written");
        let child = Command::new(COLLECTOR)
            .arg("--config")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = match child {
            Ok(child) => child,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => panic!("{error}"),
        };
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        let mut written = String::new();
        let ready = async {
            while !written.contains("Everything is ready") {
                let read = stderr.read_line(&mut written).await.expect("text");
                assert!(read > 0, "the collector doesn't start: {written}");
            }
        };
        timeout(TIMEOUT, ready).await.expect("it gets ready");
        let written = tokio::spawn(async move {
            let mut rest = String::new();
            stderr.read_to_string(&mut rest).await.expect("text");
            rest
        });
        Some(Self {
            child,
            endpoint: format!("{scheme}://{address}"),
            written,
        })
    }

    /// Stops the collector; returns its output.
    async fn stop(mut self) -> String {
        let pid = self.child.id().expect("it runs").to_string();
        let killed = Command::new("kill").args(["-s", "TERM", &pid]).status();
        assert!(killed.await.expect("kill runs").success());
        let ended = timeout(TIMEOUT, self.child.wait()).await;
        ended.expect("it ends").expect("waited for");
        self.written.await.expect("read")
    }
}

/// Parses the collector's output: the fields and attributes of each span.
fn spans(written: &str) -> Vec<HashMap<String, String>> {
    let spans = written.split("\nSpan #").skip(1);
    spans
        .map(|span| {
            let span = span.split("\nResourceSpans #").next().unwrap_or_default();
            let lines = span.lines().skip(1).map(str::trim);
            let pairs = lines.filter_map(|line| line.trim_start_matches("-> ").split_once(':'));
            pairs
                .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
                .collect()
        })
        .collect()
}

fn create_user(username: &str, token: Option<&str>, trace: Option<&Trace>) -> Request<Vec<u8>> {
    let message = pb::CreateUserRequest {
        username: username.to_owned(),
        ..Default::default()
    };
    let mut request = Request::new(message.encode_to_vec());
    if let Some(token) = token {
        let bearer = format!("Bearer {token}").parse().expect("ASCII");
        request.metadata_mut().insert("authorization", bearer);
    }
    if let Some(trace) = trace {
        let parent = trace.traceparent().parse().expect("ASCII");
        request.metadata_mut().insert("traceparent", parent);
    }
    request
}

async fn send(channel: &Channel, request: Request<Vec<u8>>) -> raw::RawResponse {
    raw::send(channel, "/groups.v1.UserService/CreateUser", request).await
}

#[tokio::test]
async fn collector_receives_spans_of_callers_trace() {
    let dir = tempfile::tempdir().expect("a directory");
    match Collector::start(dir.path(), None).await {
        Some(collector) => sent_to(collector, None).await,
        None => skip_test(
            "collector_receives_spans_of_callers_trace",
            ".ci/run builds the collector",
        ),
    }
}

#[tokio::test]
async fn collector_receives_spans_over_tls() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("tls.crt");
    let names = ["127.0.0.1".to_owned()];
    let params = rcgen::CertificateParams::new(names).expect("valid");
    let key = rcgen::KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("signed");
    std::fs::write(&path, certificate.pem()).expect("written");
    std::fs::write(path.with_extension("key"), key.serialize_pem()).expect("written");
    match Collector::start(dir.path(), Some(&path)).await {
        Some(collector) => sent_to(collector, Some(&path)).await,
        None => skip_test(
            "collector_receives_spans_over_tls",
            ".ci/run builds the collector",
        ),
    }
}

/// Makes calls, and checks the spans that a collector, with or without TLS, has received.
async fn sent_to(collector: Collector, certificate: Option<&Path>) {
    let database = Database::create().await;
    let migrated = output(&["migrate", "up", "--database-url", database.url()], &[]).await;
    assert!(migrated.status.success(), "{migrated:?}");
    let token = ["token", "create", "till", "--permissions", "write"];
    let token = [&token[..], &["--database-url", database.url()]].concat();
    let token = output(&token, &[]).await;
    let token = String::from_utf8(token.stdout).expect("text");
    let token = token.trim_end();
    assert_eq!(token.len(), 68, "{token}");
    let mut command = binary();
    command
        .args(["--listen", "127.0.0.1:0", "--authentication", "required"])
        .args(["--database-url", database.url(), "--log", "debug"])
        .args(["--otlp-endpoint", &collector.endpoint])
        .args(["--otlp-sample", "0"]);
    if let Some(certificate) = certificate {
        command.env("SSL_CERT_FILE", certificate);
    }
    let server = Process::spawn(command).await;
    let channel = server.connect().await;
    let trace = Trace::new();
    let traced = create_user("Very Private", Some(token), Some(&trace));
    send(&channel, traced).await.expect("created");
    // Rejected by the database, whose error message quotes the value.
    let again = Trace::new();
    let doubled = create_user("Very Private", Some(token), Some(&again));
    send(&channel, doubled).await.expect_err("exists already");
    let untraced = create_user("Also Private", Some(token), None);
    send(&channel, untraced).await.expect("created");
    // Pending spans are exported at shutdown.
    let log = server.stop().await;
    let written = collector.stop().await;

    let spans = spans(&written);
    let is = |span: &HashMap<String, String>, name: &str, value: &str| {
        span.get(name).is_some_and(|found| found == value)
    };
    let servers: Vec<_> = spans
        .iter()
        .filter(|span| is(span, "Kind", "Server"))
        .collect();
    assert_eq!(
        servers.len(),
        2,
        "only calls with a sampled traceparent: {written}"
    );
    let trace_id = &trace.traceparent()[3..35];
    let ours = servers.iter().find(|span| span["Trace ID"] == trace_id);
    let ours = ours.expect("the caller's trace");
    assert_eq!(ours["Parent ID"], trace.caller.to_string());
    assert_eq!(ours["Name"], "groups.v1.UserService/CreateUser");
    for (name, value) in [
        ("rpc.system.name", "Str(grpc)"),
        ("rpc.method", "Str(groups.v1.UserService/CreateUser)"),
        ("rpc.response.status_code", "Str(OK)"),
        ("enduser.id", "Str(till)"),
    ] {
        assert_eq!(ours.get(name).map(String::as_str), Some(value), "{written}");
    }
    // Statement spans are children of the transaction's span, which is a child of the call's span.
    let below = |parent: &HashMap<String, String>| {
        let id = parent["ID"].clone();
        let children = spans.iter().filter(move |span| is(span, "Parent ID", &id));
        children.collect::<Vec<_>>()
    };
    let transaction = below(ours);
    let transaction = transaction
        .iter()
        .find(|span| span["Name"] == "transaction");
    let statements = below(transaction.expect("a transaction"));
    for name in ["sea_orm.begin", "sea_orm.commit"] {
        assert!(statements.iter().any(|span| span["Name"] == name), "{name}");
    }
    assert!(
        statements.iter().any(|span| span["Trace ID"] == trace_id
            && is(span, "Kind", "Client")
            && span.contains_key("db.operation")),
        "{written}"
    );
    for attribute in [
        "service.name: Str(group-service)",
        concat!("service.version: Str(", env!("CARGO_PKG_VERSION"), ")"),
        "service.instance.id: Str(",
    ] {
        assert!(written.contains(attribute), "{attribute}: {written}");
    }
    for reported in [&written, &log] {
        for secret in ["Private", "private", &token[26..]] {
            assert!(!reported.contains(secret), "{secret}: {reported}");
        }
    }
    assert!(log.contains(&format!("trace_id={trace_id}")), "{log}");
}

#[tokio::test]
async fn unavailable_collector_does_not_affect_calls() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let nobody = format!("http://{}", free.local_addr().expect("an address"));
    drop(free);
    let database = Database::create().await;
    let mut command = binary();
    command
        .args(["--listen", "127.0.0.1:0", "--database-url", database.url()])
        .args(["--metrics-listen", "127.0.0.1:0", "--log", "info"])
        .args(["--otlp-endpoint", &nobody, "--otlp-sample", "1"]);
    let server = Process::spawn(command).await;
    let channel = server.connect().await;
    let metrics = address(&server);
    let deadline = Instant::now() + TIMEOUT;
    let mut calls = 0;
    loop {
        calls += 1;
        let call = create_user(&format!("user {calls}"), None, None);
        send(&channel, call).await.expect("created");
        if samples(&metrics).await["group_service_spans_dropped_total"] > 0.0 {
            break;
        }
        assert!(Instant::now() < deadline, "nothing is dropped");
        sleep(Duration::from_millis(20)).await;
    }
    let log = server.stop().await;
    let said = "cannot export spans to the collector";
    assert_eq!(log.matches(said).count(), 1, "once a minute: {log}");
}

#[tokio::test]
async fn invalid_collector_url_is_reported_in_one_sentence() {
    for endpoint in [
        "localhost:4317",
        "ftp://a:1",
        "http://u:secret@a:1",
        "http://a:1/v1",
    ] {
        let refused = crate::settings::refused(&output(&["--otlp-endpoint", endpoint], &[]).await);
        assert!(
            refused.contains("it must be http:// or https://"),
            "{refused}"
        );
    }
    for ratio in ["2", "-0.1", "NaN", "half"] {
        let sample = format!("--otlp-sample={ratio}");
        let refused = crate::settings::refused(&output(&[&sample], &[]).await);
        assert!(refused.contains("a number from 0 to 1"), "{refused}");
    }
}
