//! Limits of deadlines, queues, watchers, rates, connections, headers and memory.

use std::time::Duration;

use group_service::pb::{
    self, change_service_client::ChangeServiceClient, group_service_client::GroupServiceClient,
    role_service_client::RoleServiceClient,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tonic::{Code, Request, transport::Channel};

use crate::harness::{Database, Process, binary, expect_error, lock_writes};

const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) async fn start(database: &Database, args: &[&str]) -> Process {
    let mut command = binary();
    command
        .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
        .args(["--database-url", database.url()])
        .args(args);
    Process::spawn(command).await
}

fn create(name: &str) -> pb::CreateRoleRequest {
    pb::CreateRoleRequest {
        name: name.to_owned(),
        ..Default::default()
    }
}

/// Scrapes the value of one metric series.
pub(crate) async fn metric(server: &Process, series: &str) -> Option<f64> {
    let (_, address) = server.start_line.split_once("metrics on http://")?;
    let (address, _) = address.split_once('/')?;
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("asked");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("answered");
    let line = text.lines().find_map(|line| line.strip_prefix(series))?;
    line.trim().parse().ok()
}

/// Waits until the value of a metric series satisfies a condition.
pub(crate) async fn until(server: &Process, series: &str, wanted: impl Fn(f64) -> bool) {
    let reached = async {
        while !metric(server, series).await.is_some_and(&wanted) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let reached = timeout(TIMEOUT, reached).await;
    assert!(
        reached.is_ok(),
        "{series} is {:?}",
        metric(server, series).await
    );
}

#[tokio::test]
async fn default_and_maximum_deadlines_apply() {
    let database = Database::create().await;
    let limits = ["--default-deadline", "300ms", "--max-deadline", "400ms"];
    let server = start(&database, &limits).await;
    let mut roles = RoleServiceClient::new(server.connect().await);
    let other = lock_writes(&database).await;
    let mut patient = Request::new(create("B"));
    patient.set_timeout(Duration::from_secs(3600));
    for request in [Request::new(create("A")), patient] {
        let refused = expect_error(roles.create_role(request).await);
        assert_eq!(refused.code, Code::DeadlineExceeded);
        assert_eq!(refused.reason, "DEADLINE_EXCEEDED");
    }
    other.release().await;
    // A watch stream has no deadline.
    let mut changes = ChangeServiceClient::new(server.connect().await);
    let watch = pb::WatchChangesRequest::default();
    let mut feed = changes.watch_changes(watch).await.expect("followed");
    let first = feed.get_mut().message().await.expect("told");
    assert!(first.is_some());
    tokio::time::sleep(Duration::from_millis(600)).await;
    roles.create_role(create("C")).await.expect("created");
    let next = timeout(TIMEOUT, feed.get_mut().message()).await;
    assert!(next.expect("in time").expect("told").is_some());
    server.stop().await;
}

/// The number of calls rejected so far.
pub(crate) async fn refusals(server: &Process, class: &str, reason: &str) -> f64 {
    let series =
        format!("group_service_calls_refused_total{{class=\"{class}\",reason=\"{reason}\"}}");
    metric(server, &series).await.expect("told")
}

/// Waits until a write has its connection: later writes are queued behind it, and don't join its batch.
pub(crate) async fn wait_for_write_in_progress(server: &Process) {
    let busy = "group_service_pool_connections{pool=\"write\",state=\"busy\"}";
    until(server, busy, |busy| busy >= 1.0).await;
}

/// Waits until this many writes are queued or rejected in total; returns the number of each.
async fn wait_until_queued_or_rejected(server: &Process, writes: usize) -> (f64, f64) {
    let queued = "group_service_calls_queued{class=\"write\"}";
    let reported = async {
        loop {
            let queued = metric(server, queued).await.expect("told");
            let refused = refusals(server, "write", "OVERLOADED").await;
            if queued + refused >= writes as f64 {
                return (queued, refused);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(TIMEOUT, reported).await.expect("it is told")
}

#[tokio::test]
async fn overload_is_rejected_immediately() {
    let database = Database::create().await;
    let server = start(&database, &["--max-queue", "2"]).await;
    let channel = server.connect().await;
    let roles = RoleServiceClient::new(channel.clone());
    let other = lock_writes(&database).await;
    let write = |name: String| {
        let mut roles = roles.clone();
        tokio::spawn(async move { roles.create_role(create(&name)).await })
    };
    // The first write is executing, two are queued behind it.
    let mut accepted = vec![write("first".to_owned())];
    wait_for_write_in_progress(&server).await;
    let mut refused = Vec::new();
    for number in 0.. {
        let call = write(format!("role {number}"));
        let (_, refused_so_far) =
            wait_until_queued_or_rejected(&server, accepted.len() + refused.len()).await;
        if refused_so_far > refused.len() as f64 {
            refused.push(call);
        } else {
            accepted.push(call);
        }
        if refused.len() == 3 {
            break;
        }
    }
    assert!(accepted.len() <= 4, "{} were accepted", accepted.len());
    for call in refused {
        let refused = expect_error(call.await.expect("it ends"));
        assert_eq!(refused.code, Code::ResourceExhausted);
        assert_eq!(refused.reason, "OVERLOADED");
        assert!(refused.retry_delay.is_some(), "{refused:?}");
    }
    // Reads have a queue of their own.
    let mut groups = GroupServiceClient::new(channel);
    let list = pb::ListGroupsRequest::default();
    groups.list_groups(list).await.expect("listed");
    other.release().await;
    for call in accepted {
        call.await.expect("it ends").expect("created");
    }
    server.stop().await;
}

#[tokio::test]
async fn sequential_callers_are_not_rejected_as_overload() {
    let database = Database::create().await;
    let server = start(&database, &["--queue-time", "1ms"]).await;
    let roles = RoleServiceClient::new(server.connect().await);
    let other = lock_writes(&database).await;
    let mut calls = Vec::new();
    // One call after the other, so that they aren't a burst.
    let waiting = loop {
        let (mut roles, name) = (roles.clone(), format!("role {}", calls.len()));
        calls.push(tokio::spawn(async move {
            roles.create_role(create(&name)).await
        }));
        if calls.len() == 1 {
            wait_for_write_in_progress(&server).await;
        }
        let (queued, refused) = wait_until_queued_or_rejected(&server, calls.len() - 1).await;
        if refused > 0.0 {
            break queued;
        }
        assert!(calls.len() < 1000, "no call is rejected");
    };
    assert!(waiting >= 128.0, "rejected with only {waiting} queued");
    other.release().await;
    let last = calls.pop().expect("it was refused");
    assert_eq!(
        expect_error(last.await.expect("it ends")).reason,
        "OVERLOADED"
    );
    for call in calls {
        call.await.expect("it ends").expect("created");
    }
    server.stop().await;
}

#[tokio::test]
async fn watcher_limit_is_enforced() {
    let database = Database::create().await;
    let server = start(&database, &["--max-watchers", "1"]).await;
    let mut changes = ChangeServiceClient::new(server.connect().await);
    let watch = pb::WatchChangesRequest::default;
    let feed = changes.watch_changes(watch()).await.expect("followed");
    let refused = expect_error(changes.watch_changes(watch()).await);
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert_eq!(refused.reason, "OVERLOADED");
    assert_eq!(refusals(&server, "watch", "OVERLOADED").await, 1.0);
    drop(feed);
    let again = async {
        while changes.watch_changes(watch()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(TIMEOUT, again).await.expect("there is room again");
    server.stop().await;
}

#[tokio::test]
async fn rate_limit_is_per_caller() {
    let database = Database::create().await;
    let server = start(&database, &["--max-rate", "5"]).await;
    let mut groups = GroupServiceClient::new(server.connect().await);
    let list = pb::ListGroupsRequest::default;
    let mut refused = None;
    for _ in 0..1000 {
        if let Err(status) = groups.list_groups(list()).await {
            refused = Some(expect_error::<()>(Err(status)));
            break;
        }
    }
    let refused = refused.expect("the rate limit is reached");
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert_eq!(refused.reason, "RATE_LIMITED");
    let wait = refused.retry_delay.expect("when to try again");
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
    assert_eq!(refusals(&server, "any", "RATE_LIMITED").await, 1.0);
    // Another address is another caller.
    let mut other = GroupServiceClient::new(from("127.0.0.2", &server).await);
    other.list_groups(list()).await.expect("listed");
    tokio::time::sleep(wait).await;
    groups.list_groups(list()).await.expect("listed again");
    server.stop().await;
}

/// Connects from another loopback address.
pub(crate) async fn from(address: &'static str, server: &Process) -> Channel {
    let target = server.address;
    let connector = tower::service_fn(move |_: http::Uri| async move {
        let stream = connect_from(address, target).await?;
        Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
    });
    let endpoint = Channel::from_shared(format!("http://{target}")).expect("a URI");
    let channel = endpoint.connect_with_connector(connector).await;
    channel.expect("the server accepts")
}

pub(crate) async fn connect_from(
    address: &str,
    target: std::net::SocketAddr,
) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(
        (
            address.parse::<std::net::Ipv4Addr>().expect("an address"),
            0,
        )
            .into(),
    )?;
    socket.connect(target).await
}

/// Waits until the server closes a connection; false if it doesn't.
async fn closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    let read = timeout(TIMEOUT, stream.read(&mut byte)).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn connection_limits_are_enforced_in_total_and_per_address() {
    let database = Database::create().await;
    let limits = [
        "--max-connections",
        "3",
        "--max-connections-per-address",
        "2",
    ];
    let server = start(&database, &limits).await;
    let count = "group_service_connections";
    let mut open = Vec::new();
    for number in 1..=2 {
        open.push(
            connect_from("127.0.0.1", server.address)
                .await
                .expect("connected"),
        );
        until(&server, count, |there| there == f64::from(number)).await;
    }
    let mut third = connect_from("127.0.0.1", server.address)
        .await
        .expect("connected");
    assert!(
        closed(&mut third).await,
        "a third connection from one address is accepted"
    );
    open.push(
        connect_from("127.0.0.2", server.address)
            .await
            .expect("connected"),
    );
    until(&server, count, |there| there == 3.0).await;
    let mut fourth = connect_from("127.0.0.3", server.address)
        .await
        .expect("connected");
    assert!(
        closed(&mut fourth).await,
        "a fourth connection in total is accepted"
    );
    until(
        &server,
        "group_service_connections_refused_total",
        |refused| refused == 2.0,
    )
    .await;
    drop(open);
    until(&server, count, |there| there == 0.0).await;
    let mut groups = GroupServiceClient::new(server.connect().await);
    let listed = groups.list_groups(pb::ListGroupsRequest::default()).await;
    listed.expect("there is room again");
    server.stop().await;
}

#[tokio::test]
async fn header_size_and_streams_per_connection_are_limited() {
    let database = Database::create().await;
    let limits = ["--max-header-size", "1KiB", "--max-streams", "3"];
    let server = start(&database, &limits).await;
    let stream = TcpStream::connect(server.address).await.expect("connected");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    tokio::spawn(connection);
    let client = client.ready().await.expect("ready");
    let mut groups = GroupServiceClient::new(server.connect().await);
    let mut request = Request::new(pb::ListGroupsRequest::default());
    let long = "x".repeat(4096).parse().expect("ASCII");
    request.metadata_mut().insert("x-long", long);
    groups.list_groups(request).await.expect_err("too long");
    let short = groups.list_groups(pb::ListGroupsRequest::default()).await;
    short.expect("the connection still serves");
    // The server's settings are only known once the client has received them.
    let reported = async {
        while client.current_max_send_streams() != 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(TIMEOUT, reported).await.expect("three streams");
    server.stop().await;
}

#[tokio::test]
async fn largest_connection_is_evicted_over_message_memory_limit() {
    let database = Database::create().await;
    let server = start(&database, &["--message-memory", "1MiB"]).await;
    let mut good = GroupServiceClient::new(server.connect().await);
    let stream = TcpStream::connect(server.address).await.expect("connected");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.expect("ready");
    let request = http::Request::post(format!(
        "http://{}/groups.v1.GroupService/CreateGroup",
        server.address
    ));
    let request = request.header("content-type", "application/grpc");
    let request = request.body(()).expect("a request");
    let (_response, mut body) = client.send_request(request, false).expect("sent");
    // The prefix announces a message of 3 MiB, and the data never ends.
    let mut chunk = vec![0; 16 << 10];
    chunk[..5].copy_from_slice(&[0, 0, 0x30, 0, 0]);
    let sending = async {
        loop {
            body.reserve_capacity(chunk.len());
            let capacity = std::future::poll_fn(|cx| body.poll_capacity(cx)).await;
            let Some(Ok(capacity)) = capacity else { return };
            let part = chunk[..capacity.min(chunk.len())].to_vec();
            if body.send_data(part.into(), false).is_err() {
                return;
            }
        }
    };
    timeout(TIMEOUT, sending).await.expect("it is closed");
    let ended = timeout(TIMEOUT, connection).await.expect("it ends");
    // Whether GOAWAY arrives before the connection closes depends on timing.
    let _ = ended.expect("no panic");
    until(
        &server,
        "group_service_connections_evicted_total",
        |closed| closed == 1.0,
    )
    .await;
    until(&server, "group_service_in_flight_message_bytes", |bytes| {
        bytes == 0.0
    })
    .await;
    let listed = good.list_groups(pb::ListGroupsRequest::default()).await;
    listed.expect("other connections stay open");
    server.stop().await;
}

#[tokio::test]
async fn reflection_can_be_disabled() {
    let database = Database::create().await;
    for (args, there) in [(&["--reflection=false"][..], false), (&[], true)] {
        let server = start(&database, args).await;
        let channel = server.connect().await;
        let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        let answer = crate::harness::raw::call(&channel, path, Vec::new()).await;
        let code = answer.map_or_else(|status| status.code(), |_| Code::Ok);
        assert_eq!(code != Code::Unimplemented, there, "{code:?}");
        server.stop().await;
    }
}
