//! Calls any RPC of the descriptor set with arbitrary bytes.

use std::net::SocketAddr;

use group_service::pb;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};
use tokio::net::TcpStream;
use tonic::{
    Request, Response, Status,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

/// All RPCs of the service's descriptor set.
pub(crate) fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET).expect("a descriptor set");
    let methods: Vec<_> = pool
        .services()
        .flat_map(|s| s.methods().collect::<Vec<_>>())
        .collect();
    assert!(
        methods.len() >= 27,
        "the contract has more RPCs than {}",
        methods.len()
    );
    methods
}

/// The HTTP path of an RPC.
pub(crate) fn path(method: &MethodDescriptor) -> String {
    format!("/{}/{}", method.parent_service().full_name(), method.name())
}

/// A valid request with ids that don't exist.
pub(crate) fn valid_request(method: &MethodDescriptor) -> Vec<u8> {
    let mut message = DynamicMessage::new(method.input());
    for field in method.input().fields() {
        let name = field.name();
        let unknown_id = || Value::String(super::unknown_id());
        // Filters and fields of updates are optional; required fields are listed here.
        if name.ends_with("_ids") && !name.starts_with("add_") && !name.starts_with("remove_") {
            message.set_field(&field, Value::List(vec![unknown_id()]));
        } else if name.ends_with("_id") {
            message.set_field(&field, unknown_id());
        } else if ["title", "name", "username"].contains(&name) {
            message.set_field(&field, Value::String("a name".into()));
        } else if ["bundle", "controller", "action"].contains(&name) {
            message.set_field(&field, Value::String("literal".into()));
        } else if name == "questions" {
            let question =
                ["bundle", "controller", "action"].map(|part| (part, "literal".to_owned()));
            let kind = field.kind();
            let kind = kind.as_message().expect("a message").clone();
            let mut message_of = DynamicMessage::new(kind);
            message_of.set_field_by_name("user_id", unknown_id());
            for (part, text) in question {
                message_of.set_field_by_name(part, Value::String(text));
            }
            message.set_field(&field, Value::List(vec![Value::Message(message_of)]));
        }
    }
    prost::Message::encode_to_vec(&message)
}

/// Calls `path` with these bytes as the message.
pub(crate) async fn call(channel: &Channel, path: &str, message: Vec<u8>) -> RawResponse {
    send(channel, path, Request::new(message)).await
}

/// Calls `path` with a message and metadata.
pub(crate) async fn send(channel: &Channel, path: &str, request: Request<Vec<u8>>) -> RawResponse {
    let mut client = tonic::client::Grpc::new(channel.clone());
    let ready = client.ready().await;
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::try_from(path).expect("a path");
    // A unary call returns one message; of a stream only the first one is returned.
    let endless = ["/WatchChanges", "/Watch"]
        .iter()
        .any(|feed| path.path().ends_with(feed));
    let mut messages = client
        .server_streaming(request, path, Bytes)
        .await?
        .into_inner();
    let first = messages.message().await?;
    if !endless {
        messages.trailers().await?;
    }
    Ok(Response::new(first.unwrap_or_default()))
}

/// Calls without a gRPC client, which would act on some headers itself. The response must be Trailers-Only: the
/// status is read from its headers.
pub(crate) async fn call_without_grpc_client(
    address: SocketAddr,
    path: &str,
    headers: &[(&'static str, String)],
    message: Vec<u8>,
) -> RawResponse {
    let stream = TcpStream::connect(address)
        .await
        .expect("the server accepts");
    let (client, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.expect("ready");
    let mut request = http::Request::post(format!("http://{address}{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let request = request.body(()).expect("a request");
    let (response, mut body) = client.send_request(request, false).expect("sent");
    let length = u32::try_from(message.len()).expect("short");
    let frame = [&[0][..], &length.to_be_bytes(), &message].concat();
    body.send_data(frame.into(), true).expect("sent");
    let response = response.await.expect("answered");
    connection.abort();
    Err(Status::from_header_map(response.headers()).expect("a status"))
}

/// The response: the bytes of a message, or an error.
pub(crate) type RawResponse = Result<Response<Vec<u8>>, Status>;

/// A codec that passes bytes through unchanged.
struct Bytes;

impl Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        prost::bytes::BufMut::put_slice(buffer, &message);
        Ok(())
    }
}

impl Decoder for Bytes {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; prost::bytes::Buf::remaining(buffer)];
        prost::bytes::Buf::copy_to_slice(buffer, &mut message);
        Ok(Some(message))
    }
}
