//! Message memory: exactly the messages that are buffered now count against the limit.

use std::{future::poll_fn, time::Duration};

use group_service::pb::{
    self, access_service_client::AccessServiceClient, change_service_client::ChangeServiceClient,
    group_service_client::GroupServiceClient, role_service_client::RoleServiceClient,
    user_service_client::UserServiceClient,
};
use h2::{RecvStream, SendStream, client::ResponseFuture};
use prost::Message;
use prost_reflect::{Cardinality, Kind, MessageDescriptor};
use tokio::{net::TcpStream, sync::mpsc, task::JoinHandle, time::timeout};
use tonic::{Code, Request, Status, transport::Channel};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use crate::{
    abuse::{
        attacks::{empty_questions, gzip, long_title, message},
        peak_memory,
    },
    access::{allow, question},
    auth::with,
    harness::{Database, Process, expect_error, lock_writes, raw, unknown_id},
    limits::{metric, start, until},
};

const TIMEOUT: Duration = Duration::from_secs(30);
const MESSAGE_BYTES: &str = "group_service_in_flight_message_bytes";
const REFLECTION: &str = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
const EVICTED: &str = "group_service_connections_evicted_total";

/// Returns a thousand rules of 170 bytes each.
fn rules() -> Vec<pb::Rule> {
    let part = |length: usize| "x".repeat(length);
    let rule = |number| allow(&part(60), &part(60), &format!("{}{number:04}", part(41)));
    (0..1000).map(rule).collect()
}

/// Creates a role with a name of 765 bytes and a thousand rules.
pub(crate) async fn large_role(channel: &Channel, token: Option<&str>) -> String {
    let request = pb::CreateRoleRequest {
        name: "\u{754c}".repeat(255),
        rules: rules(),
        ..Default::default()
    };
    let mut roles = RoleServiceClient::new(channel.clone());
    let request = match token {
        Some(token) => with(request, token),
        None => Request::new(request),
    };
    let created = roles.create_role(request).await.expect("created");
    let role = created.into_inner().role;
    role.expect("a role").id
}

#[tokio::test]
async fn watch_stream_may_exceed_memory_limit_in_total() {
    const LIMIT: usize = 2 << 20;
    let database = Database::create().await;
    let server = start(&database, &["--message-memory", "2MiB"]).await;
    let channel = server.connect().await;
    let role = large_role(&channel, None).await;
    let watch = pb::WatchChangesRequest {
        from_revision: 1,
        ..Default::default()
    };
    let mut changes = ChangeServiceClient::new(channel.clone());
    let watched = changes.watch_changes(watch).await.expect("watched");
    let mut feed = watched.into_inner();
    // Concurrent writes on the same connection must succeed.
    let writing = tokio::spawn(async move {
        let mut roles = RoleServiceClient::new(channel);
        for number in 0..6 {
            let mut request = pb::UpdateRoleRequest {
                role_id: role.clone(),
                ..Default::default()
            };
            match number % 2 {
                0 => request.remove_rules = rules(),
                _ => request.add_rules = rules(),
            }
            roles.update_role(request).await.expect("updated");
        }
    });
    let mut received = 0;
    while received < 2 * LIMIT {
        let message = timeout(TIMEOUT, feed.message()).await.expect("in time");
        received += message.expect("sent").expect("goes on").encoded_len();
    }
    writing.await.expect("every write succeeds");
    assert_eq!(metric(&server, EVICTED).await, Some(0.0));
    server.stop().await;
}

#[tokio::test]
async fn request_stream_may_exceed_memory_limit_in_total() {
    let database = Database::create().await;
    let server = start(&database, &["--message-memory", "1MiB"]).await;
    let (requests, received) = mpsc::channel(1);
    let stream = tonic::codegen::tokio_stream::wrappers::ReceiverStream::new(received);
    let mut reflection = ServerReflectionClient::new(server.connect().await);
    let opened = reflection.server_reflection_info(stream).await;
    let mut answers = opened.expect("opened").into_inner();
    for _ in 0..60 {
        let request = ServerReflectionRequest {
            host: "x".repeat(50_000),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        requests.send(request).await.expect("taken");
        let answer = timeout(TIMEOUT, answers.message()).await.expect("in time");
        answer.expect("answered").expect("goes on");
    }
    assert_eq!(metric(&server, EVICTED).await, Some(0.0));
    drop(requests);
    until(&server, MESSAGE_BYTES, |bytes| bytes == 0.0).await;
    server.stop().await;
}

#[tokio::test]
async fn queued_requests_count_towards_message_memory() {
    let database = Database::create().await;
    let server = start(&database, &[]).await;
    let mut groups = GroupServiceClient::new(server.connect().await);
    let other = lock_writes(&database).await;
    let request = pb::BatchAssignUsersRequest {
        group_id: unknown_id(),
        user_ids: (0..1000).map(|_| unknown_id()).collect(),
        ..Default::default()
    };
    let size = request.encoded_len() as f64;
    let waiting = tokio::spawn(async move { groups.batch_assign_users(request).await });
    let queued = "group_service_pool_connections{pool=\"write\",state=\"busy\"}";
    until(&server, queued, |busy| busy >= 1.0).await;
    let buffered = metric(&server, MESSAGE_BYTES).await.expect("told");
    assert!(buffered >= size, "{buffered} of {size} bytes count");
    other.release().await;
    waiting
        .await
        .expect("it ends")
        .expect_err("there is no group");
    until(&server, MESSAGE_BYTES, |bytes| bytes == 0.0).await;
    server.stop().await;
}

/// A client that controls how much of each response it reads.
pub(crate) struct SlowReader {
    client: h2::client::SendRequest<prost::bytes::Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
    target: String,
    token: Option<String>,
}

impl SlowReader {
    pub(crate) async fn connect(server: &Process, token: Option<&str>) -> Self {
        let stream = TcpStream::connect(server.address).await.expect("connected");
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        Self {
            client,
            connection: tokio::spawn(connection),
            target: format!("http://{}", server.address),
            token: token.map(str::to_owned),
        }
    }

    /// Opens a call with this number of additional empty headers; doesn't send a message.
    pub(crate) async fn begin(
        &mut self,
        rpc: &str,
        encoding: &str,
        headers: usize,
    ) -> Result<(ResponseFuture, SendStream<prost::bytes::Bytes>), h2::Error> {
        let mut request = http::Request::post(format!("{}/{rpc}", self.target))
            .header("content-type", "application/grpc")
            .header("grpc-encoding", encoding);
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for _ in 0..headers {
            request = request.header("x", "");
        }
        let request = request.body(()).expect("a request");
        let mut client = self.client.clone().ready().await?;
        client.send_request(request, false)
    }

    /// Opens a call and sends one gRPC frame.
    async fn call(
        &mut self,
        rpc: &str,
        encoding: &str,
        frame: Vec<u8>,
        end: bool,
    ) -> Result<(ResponseFuture, SendStream<prost::bytes::Bytes>), h2::Error> {
        let rpc = format!("groups.v1.{rpc}");
        let (response, mut body) = self.begin(&rpc, encoding, 0).await?;
        body.send_data(frame.into(), end)?;
        Ok((response, body))
    }

    /// Requests a role; the response is received only as far as the initial window allows.
    pub(crate) async fn get_role(&mut self, role: &str) -> Result<RecvStream, h2::Error> {
        let request = pb::GetRoleRequest {
            role_id: role.to_owned(),
            ..Default::default()
        };
        let frame = message(false, &request.encode_to_vec());
        let (response, _) = self
            .call("RoleService/GetRole", "identity", frame, true)
            .await?;
        Ok(response.await?.into_body())
    }
}

/// Reads a response to its end; returns its size in bytes.
pub(crate) async fn read(body: &mut RecvStream) -> usize {
    let mut bytes = 0;
    while let Some(part) = body.data().await {
        let length = part.expect("sent").len();
        bytes += length;
        let released = body.flow_control().release_capacity(length);
        released.expect("it was received");
    }
    bytes
}

#[tokio::test]
async fn responses_count_until_written_to_the_connection() {
    let database = Database::create().await;
    let server = start(&database, &[]).await;
    let role = large_role(&server.connect().await, None).await;
    let mut reader = SlowReader::connect(&server, None).await;
    let mut body = reader.get_role(&role).await.expect("answered");
    // The call ends when its response is complete, but only 64 KiB of it can be sent.
    let in_flight = "group_service_calls_in_flight";
    until(&server, in_flight, |calls| calls == 0.0).await;
    let buffered = metric(&server, MESSAGE_BYTES).await.expect("told");
    assert!(buffered > 150_000.0, "{buffered} bytes count");
    assert!(read(&mut body).await > 150_000);
    until(&server, MESSAGE_BYTES, |bytes| bytes == 0.0).await;
    assert_eq!(metric(&server, EVICTED).await, Some(0.0));
    server.stop().await;
}

#[tokio::test]
async fn headers_count_while_call_is_in_flight() {
    const HEADERS: usize = 400;
    let database = Database::create().await;
    let server = start(&database, &[]).await;
    let mut client = SlowReader::connect(&server, None).await;
    for rpc in [
        "groups.v1.RoleService/CreateRole",
        "grpc.health.v1.Health/Check",
    ] {
        let call = client.begin(rpc, "identity", HEADERS).await.expect("begun");
        // An entry of a header map takes about a hundred bytes, even if it is empty.
        until(&server, MESSAGE_BYTES, |bytes| {
            bytes >= 100.0 * HEADERS as f64
        })
        .await;
        drop(call);
        until(&server, MESSAGE_BYTES, |bytes| bytes == 0.0).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn unread_error_responses_count_towards_message_memory() {
    let database = Database::create().await;
    let server = start(&database, &[]).await;
    let stream = TcpStream::connect(server.address).await.expect("connected");
    let builder = h2::client::Builder::new().initial_window_size(0).to_owned();
    let (mut client, connection) = builder
        .handshake::<_, prost::bytes::Bytes>(stream)
        .await
        .expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let mut unread = Vec::new();
    for number in 0..40 {
        let request = http::Request::post(format!("http://{}/x", server.address))
            .header("content-type", "text/plain")
            .body(())
            .expect("a request");
        client = client.ready().await.expect("open");
        let (response, _) = client.send_request(request, true).expect("sent");
        let response = response.await.expect("answered");
        assert_eq!(response.status(), 415);
        // With more than 32 unread error responses, further ones have no body.
        assert_eq!(response.body().is_end_stream(), number >= 32, "{number}");
        unread.push(response);
    }
    let buffered = metric(&server, MESSAGE_BYTES).await.expect("told");
    assert!(buffered >= 32.0 * 4096.0, "{buffered} bytes count");
    drop((unread, client));
    connection.abort();
    until(&server, MESSAGE_BYTES, |bytes| bytes == 0.0).await;
    server.stop().await;
}

#[tokio::test]
async fn second_message_of_unary_call_is_rejected() {
    let database = Database::create().await;
    let server = start(&database, &[]).await;
    let mut client = SlowReader::connect(&server, None).await;
    let rpc = "groups.v1.RoleService/ListRoles";
    let (response, mut body) = client.begin(rpc, "identity", 0).await.expect("begun");
    body.send_data([0; 10].to_vec().into(), false)
        .expect("sent");
    let response = response.await.expect("answered");
    let status = Status::from_header_map(response.headers()).expect("a status");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    server.stop().await;
}

#[tokio::test]
async fn unread_request_windows_are_reserved_in_advance() {
    let database = Database::create().await;
    let server = start(&database, &[]).await;
    let mut client = SlowReader::connect(&server, None).await;
    let (_response, mut body) = client
        .begin(REFLECTION, "identity", 0)
        .await
        .expect("begun");
    until(&server, MESSAGE_BYTES, |bytes| bytes >= 65_536.0).await;
    // The client can't send more than that until the server has read some of it.
    body.reserve_capacity(1 << 20);
    let mut window = 0;
    while window < 65_535 {
        let more = poll_fn(|cx| body.poll_capacity(cx)).await;
        window = more.expect("open").expect("granted");
    }
    assert!(window <= 65_536, "{window} bytes may be sent at once");
    server.stop().await;
}

#[tokio::test]
async fn request_streams_are_limited_per_connection() {
    let database = Database::create().await;
    let server = start(&database, &[]).await;
    let mut client = SlowReader::connect(&server, None).await;
    let mut streams = Vec::new();
    for _ in 0..32 {
        let (response, body) = client
            .begin(REFLECTION, "identity", 0)
            .await
            .expect("begun");
        streams.push((response.await.expect("answered"), body));
    }
    let (response, _body) = client
        .begin(REFLECTION, "identity", 0)
        .await
        .expect("begun");
    let response = response.await.expect("answered");
    let refused = Status::from_header_map(response.headers()).expect("a status");
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    drop(streams);
    until(&server, MESSAGE_BYTES, |bytes| bytes == 0.0).await;
    let (response, _body) = client
        .begin(REFLECTION, "identity", 0)
        .await
        .expect("begun");
    let response = response.await.expect("answered");
    assert!(Status::from_header_map(response.headers()).is_none());
    server.stop().await;
}

#[tokio::test]
async fn unread_stream_does_not_block_large_requests() {
    let database = Database::create().await;
    let server = start(&database, &[]).await;
    let mut client = SlowReader::connect(&server, None).await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let (response, mut body) = client
            .begin(REFLECTION, "identity", 0)
            .await
            .expect("begun");
        let question = ServerReflectionRequest {
            host: "x".repeat(70_000),
            message_request: Some(MessageRequest::FileContainingSymbol(
                "groups.v1.GroupService".to_owned(),
            )),
        };
        // The responses to the first messages exceed the flow-control window.
        for _ in 0..4 {
            let question = message(false, &question.encode_to_vec());
            body.send_data(question.into(), false).expect("queued");
        }
        streams.push((response.await.expect("answered"), body));
    }
    let request = pb::CreateRoleRequest {
        name: "x".repeat(100_000),
        ..Default::default()
    };
    let mut roles = RoleServiceClient::new(server.connect().await);
    let answered = timeout(TIMEOUT, roles.create_role(request)).await;
    let refused = expect_error(answered.expect("in time"));
    assert_eq!(refused.code, Code::InvalidArgument, "{refused:?}");
    drop(streams);
    server.stop().await;
}

#[tokio::test]
async fn batch_check_does_not_duplicate_access_data_in_memory() {
    const USERS: usize = 400;
    let database = Database::create().await;
    let server = start(&database, &[]).await;
    let channel = server.connect().await;
    let mut roles = RoleServiceClient::new(channel.clone());
    let mut users = UserServiceClient::new(channel.clone());
    let mut groups = GroupServiceClient::new(channel.clone());
    let (mut role_ids, mut user_ids) = (Vec::new(), Vec::new());
    for number in 0..20 {
        let request = pb::CreateRoleRequest {
            name: format!("role {number}"),
            ..Default::default()
        };
        let created = roles.create_role(request).await.expect("created");
        role_ids.push(created.into_inner().role.expect("a role").id);
    }
    for number in 0..USERS {
        let request = pb::CreateUserRequest {
            username: format!("user {number}"),
            ..Default::default()
        };
        let created = users.create_user(request).await.expect("created");
        user_ids.push(created.into_inner().user.expect("a user").id);
    }
    for number in 0..10 {
        let request = pb::CreateGroupRequest {
            title: format!("group {number}"),
            role_ids: role_ids.clone(),
            ..Default::default()
        };
        let created = groups.create_group(request).await.expect("created");
        let request = pb::BatchAssignUsersRequest {
            group_id: created.into_inner().group.expect("a group").id,
            user_ids: user_ids.clone(),
            ..Default::default()
        };
        let assigned = groups.batch_assign_users(request).await;
        assigned.expect("assigned");
    }
    // An unknown user isn't cached, so that the whole batch is read from the database.
    user_ids.push(unknown_id());
    let questions = user_ids.iter().map(|user| question(user, "shop a view"));
    let request = pb::BatchCheckAccessRequest {
        questions: questions.collect(),
        ..Default::default()
    };
    let before = peak_memory(&server);
    let mut access = AccessServiceClient::new(channel);
    let answered = access.batch_check_access(request).await;
    let answers = answered.expect("answered").into_inner().answers;
    assert_eq!(answers.len(), USERS + 1);
    // One row per combination of user, group and role would take about a hundred megabytes.
    let more = peak_memory(&server) - before;
    assert!(more < 32 << 20, "{more} bytes more");
    server.stop().await;
}

#[tokio::test]
async fn connection_with_most_unread_responses_is_evicted() {
    let database = Database::create().await;
    let server = start(&database, &["--message-memory", "1MiB"]).await;
    let channel = server.connect().await;
    let role = large_role(&channel, None).await;
    let mut modest = SlowReader::connect(&server, None).await;
    let mut unread = modest.get_role(&role).await.expect("answered");
    let mut greedy = SlowReader::connect(&server, None).await;
    let asking = async {
        let mut bodies = Vec::new();
        while let Ok(body) = greedy.get_role(&role).await {
            bodies.push(body);
        }
        bodies.len()
    };
    let answered = timeout(TIMEOUT, asking).await.expect("it is closed");
    assert!(answered >= 3, "closed after {answered} answers");
    let ended = timeout(TIMEOUT, greedy.connection).await;
    // Whether GOAWAY arrives before the connection closes depends on timing.
    let _ = ended.expect("it ends").expect("no panic");
    until(&server, EVICTED, |closed| closed == 1.0).await;
    // The other connections stay open.
    assert!(read(&mut unread).await > 150_000);
    let mut roles = RoleServiceClient::new(channel);
    let listed = roles.list_roles(pb::ListRolesRequest::default()).await;
    listed.expect("listed");
    until(&server, MESSAGE_BYTES, |bytes| bytes == 0.0).await;
    poll_fn(|cx| modest.client.poll_ready(cx))
        .await
        .expect("still connected");
    server.stop().await;
}

/// For each list in a request: its path, and an encoded request in which it has this number of entries.
fn long_lists(request: &MessageDescriptor, entries: usize) -> Vec<(String, Vec<u8>)> {
    let mut lists = Vec::new();
    for field in request.fields() {
        let value = |message: &[u8]| {
            let mut bytes = Vec::new();
            prost::encoding::bytes::encode(field.number(), &message.to_vec(), &mut bytes);
            bytes
        };
        if field.cardinality() == Cardinality::Repeated {
            let list = match field.kind() {
                Kind::Message(_) | Kind::String | Kind::Bytes => value(&[]).repeat(entries),
                // Packed encoding, one byte per entry.
                _ => value(&vec![1; entries]),
            };
            lists.push((field.name().to_owned(), list));
        } else if let Kind::Message(inner) = field.kind() {
            let inner = long_lists(&inner, entries).into_iter();
            lists.extend(
                inner.map(|(path, list)| (format!("{}.{path}", field.name()), value(&list))),
            );
        }
    }
    lists
}

#[tokio::test]
async fn oversized_lists_are_rejected_before_decoding() {
    let database = Database::create().await;
    let server = start(&database, &[]).await;
    let channel = server.connect().await;
    let methods = raw::methods();
    let before = peak_memory(&server);
    let mut lists = 0;
    for method in &methods {
        for (path, request) in long_lists(&method.input(), 2_000_000) {
            let refused = expect_error(raw::call(&channel, &raw::path(method), request).await);
            assert_eq!(
                (refused.code, &*refused.reason, refused.fields()),
                (Code::InvalidArgument, "INVALID_REQUEST", vec![&*path]),
                "{}",
                method.full_name()
            );
            lists += 1;
        }
    }
    assert!(lists >= 11, "{lists} lists");
    let more = peak_memory(&server) - before;
    assert!(
        more < 64 << 20,
        "decoding messages of 4 MiB took {more} bytes"
    );
    server.stop().await;
}

#[tokio::test]
async fn list_entry_limit_applies_to_the_whole_request() {
    let database = Database::create().await;
    let server = start(&database, &[]).await;
    let channel = server.connect().await;
    // Repeated occurrences of a message field are merged, and their lists concatenated.
    let filter = pb::ListChangesRequest {
        filter: Some(pb::ChangeFilter {
            kinds: vec![1, 1],
            ..Default::default()
        }),
        ..Default::default()
    };
    let parts = filter.encode_to_vec().repeat(100_000);
    let path = "/groups.v1.ChangeService/ListChanges";
    let refused = expect_error(raw::call(&channel, path, parts).await);
    assert_eq!(refused.fields(), ["filter.kinds"]);
    // Below the limit of the whole request, each list is validated against its own bound.
    let ids = || (0..4000).map(|_| unknown_id()).collect::<Vec<_>>();
    let update = pb::UpdateGroupRequest {
        group_id: unknown_id(),
        add_role_ids: ids(),
        remove_role_ids: ids(),
        ..Default::default()
    };
    let mut groups = GroupServiceClient::new(channel);
    let refused = expect_error(groups.update_group(update).await);
    assert_eq!(refused.fields(), ["add_role_ids", "remove_role_ids"]);
    server.stop().await;
}

#[tokio::test]
async fn compressed_requests_count_by_decompressed_size() {
    let database = Database::create().await;
    let limits = ["--compression", "gzip", "--message-memory", "32MiB"];
    let server = start(&database, &limits).await;
    let mut good = GroupServiceClient::new(server.connect().await);
    let request = long_title();
    let frame = message(true, &gzip(&request));
    assert!(frame.len() < 10_000, "{} bytes", frame.len());
    let create = "GroupService/CreateGroup";
    let mut caller = SlowReader::connect(&server, None).await;
    let opened = caller.call(create, "gzip", frame.clone(), false).await;
    let (response, mut body) = opened.expect("sent");
    let size = request.len() as f64;
    until(&server, MESSAGE_BYTES, |bytes| bytes >= 2.0 * size).await;
    body.send_data(Default::default(), true).expect("sent");
    let response = response.await.expect("answered");
    let status = Status::from_header_map(response.headers()).expect("a status");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    until(&server, MESSAGE_BYTES, |bytes| bytes == 0.0).await;
    // A few calls that stay open exceed the limit, and their connection is evicted.
    let mut open = Vec::new();
    let asking = async {
        while let Ok(call) = caller.call(create, "gzip", frame.clone(), false).await {
            open.push(call);
            // Wait until the server has counted this call.
            let calls = open.len() as f64;
            until(&server, MESSAGE_BYTES, |bytes| {
                bytes == 0.0 || bytes >= 2.0 * size * calls
            })
            .await;
        }
    };
    timeout(TIMEOUT, asking).await.expect("it is closed");
    let ended = timeout(TIMEOUT, caller.connection).await;
    let _ = ended.expect("it ends").expect("no panic");
    assert_eq!(metric(&server, EVICTED).await, Some(1.0));
    until(&server, MESSAGE_BYTES, |bytes| bytes == 0.0).await;
    let listed = good.list_groups(pb::ListGroupsRequest::default()).await;
    listed.expect("others go on");
    server.stop().await;
}

#[tokio::test]
async fn oversized_compressed_lists_are_rejected_before_decoding() {
    let database = Database::create().await;
    let server = start(&database, &["--compression", "gzip"]).await;
    let frame = message(true, &gzip(&empty_questions()));
    let mut caller = SlowReader::connect(&server, None).await;
    let before = peak_memory(&server);
    let batch = "AccessService/BatchCheckAccess";
    for _ in 0..5 {
        let called = caller.call(batch, "gzip", frame.clone(), false).await;
        let (response, _body) = called.expect("sent");
        let response = timeout(TIMEOUT, response).await.expect("in time");
        let response = response.expect("answered");
        let status = Status::from_header_map(response.headers()).expect("a status");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    let more = peak_memory(&server) - before;
    assert!(
        more < 64 << 20,
        "decoding messages of 4 MiB took {more} bytes"
    );
    server.stop().await;
}
