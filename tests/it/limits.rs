//! How much of everything there may be.

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

use crate::harness::{Database, Process, binary, hold, told};

const PATIENCE: Duration = Duration::from_secs(30);

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

/// What one series of the metrics says.
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

/// Waits until a series of the metrics says what is wanted.
pub(crate) async fn until(server: &Process, series: &str, wanted: impl Fn(f64) -> bool) {
    let reached = async {
        while !metric(server, series).await.is_some_and(&wanted) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let reached = timeout(PATIENCE, reached).await;
    assert!(
        reached.is_ok(),
        "{series} is {:?}",
        metric(server, series).await
    );
}

#[tokio::test]
async fn a_call_has_a_deadline_even_if_its_caller_names_none_or_a_long_one() {
    let database = Database::create().await;
    let limits = ["--default-deadline", "300ms", "--max-deadline", "400ms"];
    let server = start(&database, &limits).await;
    let mut roles = RoleServiceClient::new(server.connect().await);
    let other = hold(&database).await;
    let mut patient = Request::new(create("B"));
    patient.set_timeout(Duration::from_secs(3600));
    for request in [Request::new(create("A")), patient] {
        let refused = told(roles.create_role(request).await);
        assert_eq!(refused.code, Code::DeadlineExceeded);
        assert_eq!(refused.reason, "DEADLINE_EXCEEDED");
    }
    other.release().await;
    // A feed goes on for as long as its follower wants.
    let mut changes = ChangeServiceClient::new(server.connect().await);
    let watch = pb::WatchChangesRequest::default();
    let mut feed = changes.watch_changes(watch).await.expect("followed");
    let first = feed.get_mut().message().await.expect("told");
    assert!(first.is_some());
    tokio::time::sleep(Duration::from_millis(600)).await;
    roles.create_role(create("C")).await.expect("created");
    let next = timeout(PATIENCE, feed.get_mut().message()).await;
    assert!(next.expect("in time").expect("told").is_some());
    server.stop().await;
}

/// How many calls have been refused.
pub(crate) async fn refusals(server: &Process, class: &str, reason: &str) -> f64 {
    let series =
        format!("group_service_calls_refused_total{{class=\"{class}\",reason=\"{reason}\"}}");
    metric(server, &series).await.expect("told")
}

/// Waits until a write has its connection: whoever comes next waits behind it, and isn't taken along.
pub(crate) async fn being_carried_out(server: &Process) {
    let busy = "group_service_pool_connections{pool=\"write\",state=\"busy\"}";
    until(server, busy, |busy| busy >= 1.0).await;
}

/// Waits until so many writes wait or have been refused; how many of each.
async fn settled(server: &Process, writes: usize) -> (f64, f64) {
    let queued = "group_service_calls_queued{class=\"write\"}";
    let told = async {
        loop {
            let queued = metric(server, queued).await.expect("told");
            let refused = refusals(server, "write", "OVERLOADED").await;
            if queued + refused >= writes as f64 {
                return (queued, refused);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, told).await.expect("it is told")
}

#[tokio::test]
async fn whoever_would_wait_too_long_is_refused_at_once() {
    let database = Database::create().await;
    let server = start(&database, &["--max-queue", "2"]).await;
    let channel = server.connect().await;
    let roles = RoleServiceClient::new(channel.clone());
    let other = hold(&database).await;
    let write = |name: String| {
        let mut roles = roles.clone();
        tokio::spawn(async move { roles.create_role(create(&name)).await })
    };
    // The first is being carried out, two wait behind it.
    let mut accepted = vec![write("first".to_owned())];
    being_carried_out(&server).await;
    let mut refused = Vec::new();
    for number in 0.. {
        let call = write(format!("role {number}"));
        let (_, refused_so_far) = settled(&server, accepted.len() + refused.len()).await;
        if refused_so_far > refused.len() as f64 {
            refused.push(call);
        } else {
            accepted.push(call);
        }
        if refused.len() == 3 {
            break;
        }
    }
    assert!(accepted.len() <= 4, "{} were let in", accepted.len());
    for call in refused {
        let refused = told(call.await.expect("it ends"));
        assert_eq!(refused.code, Code::ResourceExhausted);
        assert_eq!(refused.reason, "OVERLOADED");
        assert!(refused.retry_delay.is_some(), "{refused:?}");
    }
    // Reads aren't in that line.
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
async fn callers_who_wait_for_each_answer_are_no_overload() {
    let database = Database::create().await;
    let server = start(&database, &["--queue-time", "1ms"]).await;
    let roles = RoleServiceClient::new(server.connect().await);
    let other = hold(&database).await;
    let mut calls = Vec::new();
    // One after the other, so that it is no rush when there are many.
    let waiting = loop {
        let (mut roles, name) = (roles.clone(), format!("role {}", calls.len()));
        calls.push(tokio::spawn(async move {
            roles.create_role(create(&name)).await
        }));
        if calls.len() == 1 {
            being_carried_out(&server).await;
        }
        let (queued, refused) = settled(&server, calls.len() - 1).await;
        if refused > 0.0 {
            break queued;
        }
        assert!(calls.len() < 1000, "nobody is refused");
    };
    assert!(waiting >= 128.0, "refused behind {waiting}");
    other.release().await;
    let last = calls.pop().expect("it was refused");
    assert_eq!(told(last.await.expect("it ends")).reason, "OVERLOADED");
    for call in calls {
        call.await.expect("it ends").expect("created");
    }
    server.stop().await;
}

#[tokio::test]
async fn so_many_may_follow_at_once() {
    let database = Database::create().await;
    let server = start(&database, &["--max-watchers", "1"]).await;
    let mut changes = ChangeServiceClient::new(server.connect().await);
    let watch = pb::WatchChangesRequest::default;
    let feed = changes.watch_changes(watch()).await.expect("followed");
    let refused = told(changes.watch_changes(watch()).await);
    assert_eq!(refused.code, Code::ResourceExhausted);
    assert_eq!(refused.reason, "OVERLOADED");
    assert_eq!(refusals(&server, "watch", "OVERLOADED").await, 1.0);
    drop(feed);
    let again = async {
        while changes.watch_changes(watch()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("there is room again");
    server.stop().await;
}

#[tokio::test]
async fn a_caller_may_call_so_often_and_others_dont_suffer() {
    let database = Database::create().await;
    let server = start(&database, &["--max-rate", "5"]).await;
    let mut groups = GroupServiceClient::new(server.connect().await);
    let list = pb::ListGroupsRequest::default;
    let mut refused = None;
    for _ in 0..1000 {
        if let Err(status) = groups.list_groups(list()).await {
            refused = Some(told::<()>(Err(status)));
            break;
        }
    }
    let refused = refused.expect("so many are too many");
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

/// A connection from another address of this machine.
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

/// Whether the other end closes a connection at once.
async fn closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    let read = timeout(PATIENCE, stream.read(&mut byte)).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn there_may_be_so_many_connections_in_all_and_from_one_address() {
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
    assert!(closed(&mut third).await, "a third from one address");
    open.push(
        connect_from("127.0.0.2", server.address)
            .await
            .expect("connected"),
    );
    until(&server, count, |there| there == 3.0).await;
    let mut fourth = connect_from("127.0.0.3", server.address)
        .await
        .expect("connected");
    assert!(closed(&mut fourth).await, "a fourth in all");
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
async fn a_calls_headers_may_be_so_large_and_a_connection_has_so_many_calls() {
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
    // What the server has said of itself is known once it has answered.
    let told = async {
        while client.current_max_send_streams() != 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, told).await.expect("three streams");
    server.stop().await;
}

#[tokio::test]
async fn whoever_has_the_most_in_hand_is_closed_when_that_is_too_much() {
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
    // It says that it is of 3 MiB, and goes on and on.
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
    timeout(PATIENCE, sending).await.expect("it is closed");
    let ended = timeout(PATIENCE, connection).await.expect("it ends");
    // Whether it is told so first is a matter of luck.
    let _ = ended.expect("no panic");
    until(
        &server,
        "group_service_connections_evicted_total",
        |closed| closed == 1.0,
    )
    .await;
    until(&server, "group_service_messages_in_hand_bytes", |bytes| {
        bytes == 0.0
    })
    .await;
    let listed = good.list_groups(pb::ListGroupsRequest::default()).await;
    listed.expect("nobody else is");
    server.stop().await;
}

#[tokio::test]
async fn reflection_can_be_switched_off() {
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
