//! Requests that aren't gRPC over HTTP/2 are rejected in the client's protocol, and never executed.

use std::{net::SocketAddr, time::Duration};

use group_service::pb::{self, role_service_client::RoleServiceClient};
use http::{Method, StatusCode};
use prost::Message;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    harness::{Database, Process, TestServer},
    limits::start,
};

const TIMEOUT: Duration = Duration::from_secs(30);

/// An HTTP/2 connection for arbitrary requests.
struct Http2 {
    client: h2::client::SendRequest<prost::bytes::Bytes>,
    target: String,
}

impl Http2 {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connected");
        let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        Self {
            client,
            target: format!("http://{address}"),
        }
    }

    /// Sends a `CreateRole` request with this name; returns the head and the body of the response.
    async fn create(
        &self,
        name: &str,
        method: Method,
        content_types: &[&str],
    ) -> (http::response::Parts, Vec<u8>) {
        let uri = format!("{}/groups.v1.RoleService/CreateRole", self.target);
        let mut request = http::Request::builder().method(method).uri(uri);
        for content_type in content_types {
            request = request.header("content-type", *content_type);
        }
        let request = request.body(()).expect("a request");
        let message = pb::CreateRoleRequest {
            name: name.to_owned(),
            ..Default::default()
        };
        let message = message.encode_to_vec();
        let length = u32::try_from(message.len()).expect("short");
        let frame = [&[0][..], &length.to_be_bytes(), &message].concat();
        let mut client = self.client.clone().ready().await.expect("connected");
        let (response, mut body) = client.send_request(request, false).expect("sent");
        // The server may have responded and reset the stream before this is sent.
        let _ = body.send_data(frame.into(), true);
        let (head, mut body) = response.await.expect("answered").into_parts();
        let mut bytes = Vec::new();
        while let Some(part) = body.data().await {
            bytes.extend(part.expect("sent"));
        }
        (head, bytes)
    }
}

/// Checks that a request was rejected with an HTTP status and a readable body.
fn assert_refused((head, body): &(http::response::Parts, Vec<u8>), code: StatusCode, what: &str) {
    assert_eq!(head.status, code, "{what}");
    assert_eq!(head.headers["content-type"], "text/plain; charset=utf-8");
    assert!(!head.headers.contains_key("grpc-status"), "{what}");
    let text = String::from_utf8_lossy(body);
    assert!(text.contains("gRPC"), "{what}: {text:?}");
}

#[tokio::test]
async fn non_grpc_content_types_and_methods_are_rejected() {
    let w = TestServer::start().await;
    let http2 = Http2::connect(w.address).await;
    let refused: [&[&str]; 10] = [
        &["text/plain"],
        &["text/plain;application/grpc"],
        &["application/x-www-form-urlencoded"],
        &["multipart/form-data; boundary=x"],
        &["application/json"],
        &["application/grpc-web"],
        &["application/grpc-web+proto"],
        &["application/grpc+json"],
        &["text/plain", "application/grpc"],
        &[],
    ];
    for types in refused {
        let answer = http2.create("refused", Method::POST, types).await;
        assert_refused(
            &answer,
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            &format!("{types:?}"),
        );
    }
    let grpc = &["application/grpc"][..];
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "BREW"] {
        let method: Method = method.parse().expect("a method");
        let answer = http2.create("refused", method.clone(), grpc).await;
        assert_refused(&answer, StatusCode::METHOD_NOT_ALLOWED, method.as_str());
        assert_eq!(answer.0.headers["allow"], "POST");
    }
    let (head, body) = http2.create("refused", Method::HEAD, grpc).await;
    assert_eq!(head.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(body.is_empty(), "{body:?}");

    let accepted = [
        "application/grpc",
        "application/grpc+proto",
        "application/grpc;charset=utf-8",
        "Application/GRPC",
    ];
    let mut names = Vec::new();
    for content_type in accepted {
        names.push(format!("role {}", names.len()));
        let name = names.last().expect("a name");
        let types = [content_type];
        let (head, _) = http2.create(name, Method::POST, &types).await;
        assert_eq!(head.status, StatusCode::OK, "{content_type}");
    }
    let list = pb::ListRolesRequest::default();
    let listed = w.roles.clone().list_roles(list).await.expect("listed");
    let roles = listed.into_inner().roles.into_iter();
    assert_eq!(roles.map(|role| role.name).collect::<Vec<_>>(), names);
}

#[tokio::test]
async fn non_grpc_requests_are_rejected_before_authentication() {
    let database = Database::create().await;
    let server = start(&database, &["--authentication", "required"]).await;
    let http2 = Http2::connect(server.address).await;
    let answer = http2.create("A", Method::POST, &["text/plain"]).await;
    assert_refused(
        &answer,
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "no credentials",
    );
    let answer = http2.create("A", Method::GET, &["application/grpc"]).await;
    assert_refused(&answer, StatusCode::METHOD_NOT_ALLOWED, "no credentials");
    // The log has these requests, but not as server errors.
    let log = server.stop().await;
    let lines: Vec<_> = log.lines().filter(|line| line.contains("_OTHER")).collect();
    let [media_type, method] = lines[..] else {
        panic!("{log}")
    };
    assert!(media_type.contains("415 Unsupported Media Type"), "{log}");
    assert!(method.contains("405 Method Not Allowed"), "{log}");
    assert!(!log.contains(" ERROR "), "{log}");
}

/// Sends an HTTP/1.1 request and reads until the connection is closed, which must not be a reset.
pub(crate) async fn http_1(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &[u8],
) -> String {
    stream.write_all(request).await.expect("sent");
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).expect("text");
    read.unwrap_or_else(|error| panic!("{error} after {answer:?}"));
    answer
}

pub(crate) fn assert_version_not_supported(answer: &str) {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let mut lines = head.lines();
    let status = "HTTP/1.1 505 HTTP Version Not Supported";
    assert_eq!(lines.next(), Some(status), "{answer}");
    let length = format!("content-length: {}", body.len());
    let lines: Vec<_> = lines.collect();
    assert!(lines.contains(&&*length), "{answer}");
    assert!(lines.contains(&"connection: close"), "{answer}");
    assert!(body.contains("HTTP/2"), "{answer}");
}

#[tokio::test]
async fn http1_requests_get_http1_response() {
    let database = Database::create().await;
    let server = Process::start(database.url()).await;
    let post = format!(
        "POST /groups.v1.RoleService/CreateRole HTTP/1.1\r\nhost: x\r\n\
         content-type: application/grpc\r\ncontent-length: 30000\r\n\r\n{}",
        "x".repeat(30_000)
    );
    for request in [
        "GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET / HTTP/1.0\r\n\r\n",
        "PRI * HTTP/1.1\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        &post,
    ] {
        let stream = TcpStream::connect(server.address).await.expect("connected");
        assert_version_not_supported(&http_1(stream, request.as_bytes()).await);
    }
    let mut roles = RoleServiceClient::new(server.connect().await);
    let listed = roles.list_roles(pb::ListRolesRequest::default()).await;
    assert_eq!(listed.expect("listed").into_inner().roles, []);
    server.stop().await;
}

#[tokio::test]
async fn http2_preface_may_arrive_byte_by_byte() {
    let database = Database::create().await;
    let server = Process::start(database.url()).await;
    let mut stream = TcpStream::connect(server.address).await.expect("connected");
    begin_http_2(&mut stream).await;
    server.stop().await;
}

/// Sends the HTTP/2 preface one byte at a time, and waits for the server's settings.
pub(crate) async fn begin_http_2(stream: &mut TcpStream) {
    stream.set_nodelay(true).expect("set");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    for byte in preface.iter().chain(&settings) {
        stream.write_all(&[*byte]).await.expect("sent");
        tokio::task::yield_now().await;
    }
    let mut head = [0; 9];
    let answered = timeout(TIMEOUT, stream.read_exact(&mut head)).await;
    answered.expect("in time").expect("answered");
    assert_eq!(head[3], 4, "{head:?}");
}
