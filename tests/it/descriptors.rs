//! File descriptors: connections leave enough of them for calls and the database.

use std::{fs, time::Duration};

use group_service::pb::{self, role_service_client::RoleServiceClient};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::{
    harness::{Database, Process, binary_with_ulimit},
    limits::{connect_from, metric, until},
    protocol::begin_http_2,
    settings::refused,
};

const TIMEOUT: Duration = Duration::from_secs(30);

async fn start(database: &Database, ulimit: &str) -> Process {
    let mut command = binary_with_ulimit(ulimit);
    command
        .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
        .args(["--database-url", database.url()]);
    Process::spawn(command).await
}

/// The soft and the hard limit of open files.
fn open_files(server: &Process) -> (String, String) {
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.pid()));
    let limits = limits.expect("the process runs");
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let mut words = line.expect("a limit").split_whitespace().skip(3);
    let mut next = || words.next().expect("a limit").to_owned();
    (next(), next())
}

#[tokio::test]
async fn idle_connections_leave_descriptors_for_calls_and_probes() {
    let database = Database::create().await;
    let server = start(&database, "-n 256").await;
    server
        .wait_for_log("--max-connections is lowered to ")
        .await;
    let roles = RoleServiceClient::new(server.connect().await);
    let mut idle = Vec::new();
    for number in 0..300 {
        let address = format!("127.0.0.{}", 2 + number % 20);
        // Connections beyond the limit are closed at once, or reset while connecting.
        idle.extend(connect_from(&address, server.address).await);
    }
    let refused = "group_service_connections_refused_total";
    until(&server, refused, |refused| refused >= 40.0).await;
    let mut calls = JoinSet::new();
    for number in 0..30 {
        let mut roles = roles.clone();
        calls.spawn(async move {
            let role = pb::CreateRoleRequest {
                name: format!("role {number}"),
                ..Default::default()
            };
            roles.create_role(role).await.expect("created");
            let listed = roles.list_roles(pb::ListRolesRequest::default()).await;
            listed.expect("listed");
        });
    }
    calls.join_all().await;
    assert_eq!(http_get(&metrics(&server), "/readyz").await, "ready\n");
    let available = "group_service_database_available";
    assert_eq!(metric(&server, available).await, Some(1.0));
    drop(idle);
    let log = server.stop().await;
    assert!(!log.contains("Too many open files"), "{log}");
}

#[tokio::test]
async fn per_address_limit_shrinks_with_connection_limit() {
    let database = Database::create().await;
    let server = start(&database, "-n 256").await;
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.extend(connect_from("127.0.0.2", server.address).await);
    }
    let refused = "group_service_connections_refused_total";
    until(&server, refused, |refused| refused >= 40.0).await;
    let mut roles = RoleServiceClient::new(server.connect().await);
    let listed = roles.list_roles(pb::ListRolesRequest::default()).await;
    listed.expect("another address has its own");
    drop(idle);
    server.stop().await;
}

#[tokio::test]
async fn open_file_limit_is_raised_to_hard_limit() {
    let database = Database::create().await;
    let server = start(&database, "-Sn 128").await;
    let (soft, hard) = open_files(&server);
    assert_eq!(soft, hard);
    assert_ne!(soft, "128");
    server.stop().await;
}

#[tokio::test]
async fn startup_fails_if_open_file_limit_leaves_no_connections() {
    let database = Database::create().await;
    let mut command = binary_with_ulimit("-n 60");
    command
        .args(["--listen", "127.0.0.1:0", "--database-url"])
        .arg(database.url());
    let output = timeout(TIMEOUT, command.output()).await;
    let output = output.expect("it ends").expect("it starts");
    let sentence = refused(&output);
    assert!(sentence.contains("only 60 files may be open"), "{sentence}");
}

#[tokio::test]
async fn accept_failures_are_logged_and_retried() {
    let database = Database::create().await;
    let server = start(&database, "-n 512").await;
    let mut roles = RoleServiceClient::new(server.connect().await);
    let list = pb::ListRolesRequest::default;
    roles.list_roles(list()).await.expect("listed");
    let set = |current| {
        let pid = Pid::from_raw(server.pid().try_into().expect("a pid"));
        let limit = Rlimit {
            current: Some(current),
            maximum: Some(512),
        };
        prlimit(pid, Resource::Nofile, limit).expect("set");
    };
    set(3);
    // The kernel completes the connection even if the server can't accept it.
    let mut waiting = TcpStream::connect(server.address).await.expect("connected");
    server.wait_for_log("cannot accept a connection").await;
    server.wait_for_log("Too many open files").await;
    set(512);
    begin_http_2(&mut waiting).await;
    roles.list_roles(list()).await.expect("listed again");
    server.stop().await;
}

/// The address of the metrics port.
pub(crate) fn metrics(server: &Process) -> String {
    let (_, address) = server
        .start_line
        .split_once("metrics on http://")
        .expect("it listens");
    let (address, _) = address.split_once('/').expect("a path");
    address.to_owned()
}

async fn http_get(address: &str, path: &str) -> String {
    let stream = TcpStream::connect(address).await.expect("it listens");
    http_get_on(stream, path).await
}

async fn http_get_on(mut stream: TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("answered");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    body.to_owned()
}

#[tokio::test]
async fn metrics_port_flood_evicts_connections_of_the_same_address() {
    let database = Database::create().await;
    let server = start(&database, "-n 512").await;
    let address = metrics(&server);
    let probe = TcpStream::connect(&address).await.expect("connected");
    let mut flood = Vec::new();
    for _ in 0..100 {
        let target = address.parse().expect("an address");
        flood.push(connect_from("127.0.0.2", target).await.expect("connected"));
    }
    // The oldest connection is closed and the newest is served, so all of them were accepted.
    let mut byte = [0];
    let closed = timeout(TIMEOUT, flood[0].read(&mut byte)).await;
    assert!(matches!(closed.expect("in time"), Ok(0) | Err(_)));
    let last = flood.pop().expect("a connection");
    assert_eq!(http_get_on(last, "/livez").await, "alive\n");
    assert_eq!(http_get_on(probe, "/livez").await, "alive\n");
    server.stop().await;
}

#[tokio::test]
async fn idle_metrics_port_connections_are_evicted_for_new_ones() {
    let database = Database::create().await;
    let server = start(&database, "-n 512").await;
    let address = metrics(&server);
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(TcpStream::connect(&address).await.expect("connected"));
        assert_eq!(http_get(&address, "/livez").await, "alive\n");
    }
    let mut byte = [0];
    let closed = timeout(TIMEOUT, idle[0].read(&mut byte)).await;
    assert!(matches!(closed.expect("in time"), Ok(0) | Err(_)));
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("it runs");
    assert!(open.count() < 100, "idle connections are kept");
    server.stop().await;
}
