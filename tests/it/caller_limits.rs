//! Limits per caller, and limits of unauthenticated callers.

use std::{net::IpAddr, time::Duration};

use group_service::{
    listen::network,
    pb::{
        self, change_service_client::ChangeServiceClient, group_service_client::GroupServiceClient,
        role_service_client::RoleServiceClient,
    },
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{Instant, timeout},
};
use tonic::{Code, Status, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
};

use crate::{
    abuse::attacks::message,
    auth::with,
    harness::{Database, Process, expect_error, lock_writes},
    limits::{connect_from, from, metric, refusals, start, until, wait_for_write_in_progress},
    memory::{SlowReader, large_role, read},
    protocol::begin_http_2,
    settings::output,
};

const TIMEOUT: Duration = Duration::from_secs(30);
const CONNECTIONS: &str = "group_service_connections";
const CLOSED: &str = "group_service_connections_unauthenticated_closed_total";
const EVICTED: &str = "group_service_connections_evicted_total";
const MESSAGE_BYTES: &str = "group_service_in_flight_message_bytes";

/// Starts a server with authentication, without TLS.
pub(crate) async fn start_with_authentication(database: &Database, args: &[&str]) -> Process {
    start(
        database,
        &[&["--authentication", "required"], args].concat(),
    )
    .await
}

/// Creates a token.
pub(crate) async fn token(database: &Database, caller: &str, permissions: &str) -> String {
    let create = ["create", caller, "--permissions", permissions];
    tokens(database, &create).await.trim_end().to_owned()
}

/// Revokes the token of a caller.
pub(crate) async fn revoke(database: &Database, caller: &str) {
    let listed = tokens(database, &["list"]).await;
    let line = listed.lines().find(|line| line.contains(caller));
    let id = line.and_then(|line| line.split_whitespace().next());
    tokens(database, &["revoke", id.expect("a token")]).await;
}

/// Runs a `token` command; returns its output.
async fn tokens(database: &Database, args: &[&str]) -> String {
    let url = ["--database-url", database.url()];
    let output = output(&[&["token"], args, &url].concat(), &[]).await;
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

async fn list(channel: &Channel, token: &str) -> Result<(), Status> {
    let mut groups = GroupServiceClient::new(channel.clone());
    let list = with(pb::ListGroupsRequest::default(), token);
    groups.list_groups(list).await.map(drop)
}

async fn watch_health(channel: &Channel) -> Result<tonic::Streaming<HealthCheckResponse>, Status> {
    let mut health = HealthClient::new(channel.clone());
    let watched = health.watch(HealthCheckRequest::default()).await;
    watched.map(tonic::Response::into_inner)
}

fn assert_overloaded<T: std::fmt::Debug>(answer: Result<T, Status>) {
    let refused = expect_error(answer.map(tonic::Response::new));
    assert_eq!(refused.code, Code::ResourceExhausted, "{refused:?}");
    assert_eq!(refused.reason, "OVERLOADED");
}

#[tokio::test]
async fn unauthenticated_calls_have_a_separate_memory_budget() {
    let database = Database::create().await;
    let server = start_with_authentication(&database, &["--message-memory", "1MiB"]).await;
    let token = token(&database, "till", "read,write").await;
    let role = large_role(&server.connect().await, Some(&token)).await;
    let mut watchers = Vec::new();
    for _ in 0..12 {
        let channel = from("127.0.0.2", &server).await;
        for _ in 0..20 {
            // Some of these connections are evicted.
            watchers.extend(watch_health(&channel).await);
        }
        watchers.extend(watch_health(&channel).await);
    }
    // Responses of about 170 KB each, read one after the other: the health watches must not cause an eviction.
    let mut reader = SlowReader::connect(&server, Some(&token)).await;
    for _ in 0..25 {
        let mut body = reader.get_role(&role).await.expect("answered");
        assert!(read(&mut body).await > 150_000);
    }
    drop(watchers);
    server.stop().await;
}

#[tokio::test]
async fn request_body_arriving_after_revocation_is_rejected() {
    let database = Database::create().await;
    let server = start_with_authentication(&database, &[]).await;
    let (late, other) = (
        token(&database, "late", "write").await,
        token(&database, "other", "read").await,
    );
    let channel = server.connect().await;
    // The token is cached from now on: the call below must not look it up and find it revoked.
    let denied = list(&channel, &late).await.expect_err("it may not");
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied:?}");
    let mut client = SlowReader::connect(&server, Some(&late)).await;
    let rpc = "groups.v1.RoleService/CreateRole";
    let (response, mut body) = client.begin(rpc, "identity", 0).await.expect("begun");
    until(&server, "group_service_calls_in_flight", |calls| {
        calls == 1.0
    })
    .await;
    revoke(&database, "late").await;
    let refused = async {
        while list(&channel, &late).await.expect_err("it may not").code() != Code::Unauthenticated {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TIMEOUT, refused).await.expect("revoked");
    let request = pb::CreateRoleRequest {
        name: "late".to_owned(),
        ..Default::default()
    };
    let request = message(false, &request.encode_to_vec());
    body.send_data(request.into(), true).expect("sent");
    let response = response.await.expect("answered");
    let status = Status::from_header_map(response.headers()).expect("a status");
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    let mut roles = RoleServiceClient::new(channel);
    let listed = roles
        .list_roles(with(pb::ListRolesRequest::default(), &other))
        .await;
    assert!(listed.expect("listed").into_inner().roles.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn unauthenticated_calls_are_limited_per_connection_and_address() {
    let database = Database::create().await;
    let server = start(&database, &["--max-connections-per-address", "40"]).await;
    let first = from("127.0.0.2", &server).await;
    let mut watches = Vec::new();
    for _ in 0..32 {
        watches.push(watch_health(&first).await.expect("watched"));
    }
    // Each watch counts 5 KiB.
    let buffered = metric(&server, MESSAGE_BYTES).await.expect("told");
    assert!(buffered >= 32.0 * 5.0 * 1024.0, "{buffered} bytes count");
    assert_overloaded(watch_health(&first).await);
    let second = from("127.0.0.2", &server).await;
    for _ in 0..8 {
        watches.push(watch_health(&second).await.expect("watched"));
    }
    assert_overloaded(watch_health(&second).await);
    assert_eq!(refusals(&server, "public", "OVERLOADED").await, 2.0);
    // Other calls on the connection, and calls from other addresses, are unaffected.
    let mut groups = GroupServiceClient::new(first.clone());
    let listed = groups.list_groups(pb::ListGroupsRequest::default()).await;
    listed.expect("listed");
    let other = from("127.0.0.3", &server).await;
    watch_health(&other).await.expect("watched");
    drop(watches);
    until(&server, MESSAGE_BYTES, |bytes| bytes == 0.0).await;
    watch_health(&second).await.expect("watched again");
    server.stop().await;
}

/// The body of a request isn't read while its token is looked up.
#[tokio::test]
async fn a_connection_may_have_as_many_unread_requests_as_calls() {
    let database = Database::create().await;
    let server = start_with_authentication(&database, &[]).await;
    let channel = from("127.0.0.2", &server).await;
    let mut calls = JoinSet::new();
    for number in 0..1000 {
        let channel = channel.clone();
        let token = format!("unknown {number}");
        calls.spawn(async move { list(&channel, &token).await });
    }
    for answer in calls.join_all().await {
        let refused = expect_error(answer.map(tonic::Response::new));
        assert_eq!(refused.code, Code::Unauthenticated, "{refused:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn connections_with_rejected_calls_are_throttled() {
    let database = Database::create().await;
    let server = start_with_authentication(&database, &[]).await;
    let token = token(&database, "till", "read").await;
    let channel = from("127.0.0.2", &server).await;
    let begun = Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..2000 {
        let channel = channel.clone();
        calls.spawn(async move { watch_health(&channel).await });
    }
    let answers = calls.join_all().await;
    // The delay is 10 ms per rejected call, at most one second for calls that are read together.
    let took = begun.elapsed();
    assert!(took >= Duration::from_secs(1), "{took:?}");
    let (watches, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(watches.len(), 32);
    refused.into_iter().for_each(assert_overloaded);
    // The connection stays usable.
    list(&channel, &token).await.expect("listed");
    server.stop().await;
}

#[tokio::test]
async fn memory_eviction_targets_caller_with_highest_total_usage() {
    let database = Database::create().await;
    let server = start_with_authentication(&database, &["--message-memory", "1MiB"]).await;
    let modest = token(&database, "modest", "read,write").await;
    let greedy = token(&database, "greedy", "read").await;
    let role = large_role(&server.connect().await, Some(&modest)).await;
    // This connection uses more than any other, but its caller uses less than the other caller.
    let mut reader = SlowReader::connect(&server, Some(&modest)).await;
    let mut first = reader.get_role(&role).await.expect("answered");
    let mut second = reader.get_role(&role).await.expect("answered");
    let mut others = Vec::new();
    while metric(&server, EVICTED).await == Some(0.0) {
        assert!(others.len() < 20, "no connection is evicted");
        let mut other = SlowReader::connect(&server, Some(&greedy)).await;
        let answer = other.get_role(&role).await;
        others.push((other, answer));
    }
    // Concurrently: they share the connection's window.
    let read = async { tokio::join!(read(&mut first), read(&mut second)) };
    let (first, second) = timeout(TIMEOUT, read).await.expect("in time");
    assert!(
        first > 150_000 && second > 150_000,
        "{first} and {second} bytes"
    );
    let again = reader.get_role(&role).await;
    drop(again.expect("answered again"));
    server.stop().await;
}

#[tokio::test]
async fn unauthenticated_connections_are_evicted_for_new_ones() {
    let database = Database::create().await;
    let limits = [
        "--max-connections",
        "8",
        "--max-connections-per-address",
        "4",
    ];
    let server = start_with_authentication(&database, &limits).await;
    let token = token(&database, "till", "read").await;
    let mut idle = Vec::new();
    for number in 0..8 {
        let address = if number < 4 { "127.0.0.2" } else { "127.0.0.3" };
        let mut stream = connect_from(address, server.address)
            .await
            .expect("connected");
        begin_http_2(&mut stream).await;
        idle.push(stream);
    }
    // From a new address, and from one that is at its connection limit.
    let (own, shared) = (
        from("127.0.0.1", &server).await,
        from("127.0.0.2", &server).await,
    );
    list(&own, &token).await.expect("listed");
    list(&shared, &token).await.expect("listed");
    // Further connections don't evict authenticated ones.
    for _ in 0..20 {
        idle.extend(connect_from("127.0.0.3", server.address).await);
    }
    until(&server, CLOSED, |closed| closed >= 4.0).await;
    for channel in [&own, &shared] {
        list(channel, &token).await.expect("listed again");
    }
    until(&server, CONNECTIONS, |open| open <= 8.0).await;
    server.stop().await;
}

#[tokio::test]
async fn unauthenticated_connections_time_out() {
    let database = Database::create().await;
    let server = start_with_authentication(&database, &[]).await;
    let token = token(&database, "till", "read").await;
    let known = server.connect().await;
    list(&known, &token).await.expect("listed");
    let watching = server.connect().await;
    let mut watch = watch_health(&watching).await.expect("watched");
    watch.message().await.expect("told").expect("a status");
    let mut idle = TcpStream::connect(server.address).await.expect("connected");
    begin_http_2(&mut idle).await;
    let mut rest = Vec::new();
    let ended = timeout(TIMEOUT, idle.read_to_end(&mut rest)).await;
    let _ = ended.expect("it is closed");
    until(&server, CLOSED, |closed| closed == 1.0).await;
    // Authenticated connections and health watches stay open.
    until(&server, CONNECTIONS, |open| open == 2.0).await;
    list(&known, &token).await.expect("listed");
    let next = timeout(Duration::from_millis(50), watch.message()).await;
    assert!(next.is_err(), "{next:?}");
    server.stop().await;
}

#[test]
fn ipv6_addresses_are_counted_by_64_bit_prefix() {
    let network = |address: &str| network(address.parse().expect("an address")).to_string();
    assert_eq!(network("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
    assert_eq!(network("2001:db8:1:2:ffff::1"), "2001:db8:1:2::");
    assert_ne!(network("2001:db8:1:3::1"), "2001:db8:1:2::");
    assert_eq!(network("192.0.2.7"), "192.0.2.7");
    assert_eq!(network("::ffff:192.0.2.7"), "192.0.2.7");
    let _: IpAddr = network("::1").parse().expect("an address");
}

#[tokio::test]
async fn connection_limit_is_per_caller() {
    let database = Database::create().await;
    let server =
        start_with_authentication(&database, &["--max-connections-per-address", "2"]).await;
    let till = token(&database, "till", "read").await;
    let desk = token(&database, "desk", "read").await;
    let first = from("127.0.0.2", &server).await;
    let second = from("127.0.0.3", &server).await;
    let third = from("127.0.0.4", &server).await;
    list(&first, &till).await.expect("listed");
    list(&second, &till).await.expect("listed");
    assert_overloaded(list(&third, &till).await);
    // The connection counts for the other caller from now on, and may be shared.
    list(&third, &desk).await.expect("listed");
    list(&third, &till).await.expect("listed");
    drop(first);
    until(&server, CONNECTIONS, |open| open == 2.0).await;
    list(&from("127.0.0.5", &server).await, &till)
        .await
        .expect("there is room again");
    server.stop().await;
}

#[tokio::test]
async fn watcher_limit_is_shared_fairly_between_callers() {
    let database = Database::create().await;
    let server = start_with_authentication(&database, &["--max-watchers", "4"]).await;
    let greedy = token(&database, "greedy", "audit").await;
    let modest = token(&database, "modest", "audit").await;
    let mut changes = ChangeServiceClient::new(server.connect().await);
    let mut watch = async |token: &str| {
        let watch = with(pb::WatchChangesRequest::default(), token);
        changes.watch_changes(watch).await
    };
    let mut feeds = Vec::new();
    for _ in 0..2 {
        feeds.push(watch(&greedy).await.expect("followed"));
    }
    assert_overloaded(watch(&greedy).await);
    feeds.push(watch(&modest).await.expect("another caller has its own"));
    assert_eq!(refusals(&server, "watch", "OVERLOADED").await, 1.0);
    // One watcher is left, and three of four places are free.
    feeds.truncate(1);
    until(&server, "group_service_watchers", |follow| follow == 1.0).await;
    watch(&greedy).await.expect("there is room again");
    server.stop().await;
}

/// Waits until this number of calls of a class is queued.
async fn queued(server: &Process, class: &str, wanted: f64) {
    let series = format!("group_service_calls_queued{{class=\"{class}\"}}");
    until(server, &series, |queued| queued == wanted).await;
}

#[tokio::test]
async fn min_revision_queue_is_shared_fairly_between_callers() {
    let database = Database::create().await;
    let server = start_with_authentication(&database, &["--max-queue", "4"]).await;
    let greedy = token(&database, "greedy", "read").await;
    let modest = token(&database, "modest", "read").await;
    let groups = GroupServiceClient::new(server.connect().await);
    let wait = |token: &str| {
        let list = pb::ListGroupsRequest {
            min_revision: 1 << 40,
            ..Default::default()
        };
        let (mut groups, list) = (groups.clone(), with(list, token));
        tokio::spawn(async move { groups.list_groups(list).await })
    };
    let mut waiting = Vec::new();
    for number in 1..=2 {
        waiting.push(wait(&greedy));
        queued(&server, "min_revision", f64::from(number)).await;
    }
    assert_overloaded(wait(&greedy).await.expect("no panic"));
    waiting.push(wait(&modest));
    for call in waiting {
        let refused = expect_error(call.await.expect("no panic"));
        assert_eq!(refused.code, Code::OutOfRange, "{refused:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn write_queue_is_shared_fairly_between_callers() {
    let database = Database::create().await;
    let server = start_with_authentication(&database, &["--max-queue", "4"]).await;
    let greedy = token(&database, "greedy", "write").await;
    let modest = token(&database, "modest", "write").await;
    let roles = RoleServiceClient::new(server.connect().await);
    let other = lock_writes(&database).await;
    let write = |name: &str, token: &str| {
        let role = pb::CreateRoleRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        let (mut roles, role) = (roles.clone(), with(role, token));
        tokio::spawn(async move { roles.create_role(role).await })
    };
    // The first write is executing, two are queued behind it.
    let mut accepted = vec![write("first", &greedy)];
    wait_for_write_in_progress(&server).await;
    for number in 1..=2 {
        accepted.push(write(&format!("role {number}"), &greedy));
        queued(&server, "write", f64::from(number)).await;
    }
    assert_overloaded(write("too many", &greedy).await.expect("no panic"));
    accepted.push(write("another caller's", &modest));
    queued(&server, "write", 3.0).await;
    other.release().await;
    for call in accepted {
        call.await.expect("no panic").expect("created");
    }
    server.stop().await;
}

#[tokio::test]
async fn streams_end_when_token_is_revoked() {
    let database = Database::create().await;
    let server = start_with_authentication(&database, &[]).await;
    let token = token(&database, "tool", "read").await;
    let (questions, asked) = tokio::sync::mpsc::channel::<ServerReflectionRequest>(1);
    let asked = tonic::codegen::tokio_stream::wrappers::ReceiverStream::new(asked);
    let mut reflection = ServerReflectionClient::new(server.connect().await);
    let opened = reflection.server_reflection_info(with(asked, &token)).await;
    let mut answers = opened.expect("opened").into_inner();
    revoke(&database, "tool").await;
    let ended = timeout(TIMEOUT, answers.message()).await.expect("it ends");
    let ended = ended.expect_err("it is refused");
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended:?}");
    drop(questions);
    server.stop().await;
}

/// Counts the log lines that contain all parts.
fn lines(log: &str, parts: &[&str]) -> usize {
    let lines = log.lines();
    lines
        .filter(|line| parts.iter().all(|part| line.contains(part)))
        .count()
}

#[tokio::test]
async fn rejected_calls_are_counted_and_logged_with_caller() {
    let database = Database::create().await;
    let server = start_with_authentication(&database, &["--max-rate", "20"]).await;
    let good = token(&database, "good", "read").await;
    let checker = token(&database, "checker", "check").await;
    let attacker = from("127.0.0.2", &server).await;
    // Calls until 200 calls are rate-limited; returns the number of other rejections.
    let flood = async |channel: &Channel, token: &str| {
        let deadline = Instant::now() + TIMEOUT;
        let (mut refused, mut limited) = (0, 0);
        while limited < 200 {
            assert!(
                Instant::now() < deadline,
                "{refused} refused, {limited} limited"
            );
            let status = list(channel, token).await.expect_err("refused");
            match status.code() {
                Code::ResourceExhausted => limited += 1,
                Code::Unauthenticated | Code::PermissionDenied => refused += 1,
                // On a busy machine this may exceed 10 s: the unauthenticated connection is closed, and the client
                // reconnects.
                Code::Unknown | Code::Unavailable => {}
                other => panic!("{other:?}"),
            }
        }
        refused
    };
    assert!(flood(&attacker, "gst_wrong").await >= 20);
    // An authenticated caller isn't rate-limited by address.
    list(&attacker, &good).await.expect("listed");
    // An authenticated caller without permission is rate-limited by name.
    let channel = server.connect().await;
    assert!(flood(&channel, &checker).await >= 20);
    list(&channel, &good).await.expect("listed");
    let log = server.stop().await;
    let denied = lines(&log, &["PERMISSION_DENIED", "enduser.id=\"checker\""]);
    assert!(denied >= 20, "{denied} of {log}");
    let limited = lines(&log, &["RESOURCE_EXHAUSTED", "enduser.id=\"checker\""]);
    // Rate-limited calls are logged at most once per second and caller.
    assert!((1..=50).contains(&limited), "{limited} lines for 200 calls");
    let unknown = lines(&log, &["RESOURCE_EXHAUSTED", "127.0.0.2"]);
    assert!((1..=50).contains(&unknown), "{unknown} lines for 200 calls");
    assert_eq!(lines(&log, &["PERMISSION_DENIED", "good"]), 0);
}

#[tokio::test]
async fn metrics_port_requests_time_out_and_do_not_reflect_host() {
    let database = Database::create().await;
    let server = start(&database, &[]).await;
    let address = crate::descriptors::metrics(&server);
    let mut half = TcpStream::connect(&address).await.expect("connected");
    let begin = b"GET /metrics HTTP/1.1\r\nhost: x\r\nx-more: ";
    half.write_all(begin).await.expect("sent");
    for path in ["/", "/metrics/", "/nowhere", "http://evil.example/"] {
        let mut stream = TcpStream::connect(&address).await.expect("connected");
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
        assert!(!answer.contains("evil"), "{answer}");
    }
    let mut rest = Vec::new();
    let ended = timeout(TIMEOUT, half.read_to_end(&mut rest)).await;
    let _ = ended.expect("it is closed");
    server.stop().await;
}
