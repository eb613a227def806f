//! Access to private code for the fuzz targets: built by `cargo fuzz` only.

use std::{
    net::Ipv4Addr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use http::HeaderMap;
use http_body_util::Full;
use prost::bytes::Bytes;
use tonic::{
    Status,
    codec::{Codec, Streaming},
    codegen::tokio_stream::Stream,
};

use crate::{
    codec::{self, LimitedCodec, RpcMessage},
    domain::{PageToken, Scope},
    grpc,
    listen::{ConnectionLimits, Connections, memory},
};

/// Maximum number of entries in all lists of a request together.
pub const MAX_ENTRIES: usize = codec::MAX_ENTRIES;

/// The least that a call counts as, in bytes, whatever the limit of message memory.
pub const MIN_CALL_BYTES: u64 = memory::MIN_CALL_BYTES;

/// A page token with a valid tag and any payload.
#[must_use]
pub fn page_token(scope: &Scope, payload: &[u8]) -> String {
    PageToken::seal(payload, scope)
}

/// The bearer token of a request.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    grpc::bearer(headers)
}

/// Decodes a request as a server with `memory` bytes of message memory does. Also returns the bytes that the request
/// was counted as.
pub fn decode<T: RpcMessage + Send + 'static>(
    message: &[u8],
    memory: u64,
) -> (Result<T, Status>, u64) {
    let connections = Connections::new(ConnectionLimits {
        connections: 1,
        per_address: 1,
        bytes: memory,
        authentication: false,
    });
    let Ok((guard, _closing)) = connections.register(Ipv4Addr::LOCALHOST.into()) else {
        return (Err(Status::internal("no connection")), 0);
    };
    let reservation = Arc::new(guard.connection().begin_call());
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let frame = [&[0][..], &length.to_be_bytes(), message].concat();
    let mut stream = codec::with_reservation(Some(reservation), || {
        let decoder = LimitedCodec::<T, T>::default().decoder();
        Streaming::new_request(decoder, Full::new(Bytes::from(frame)), None, None)
    });
    let polled = Pin::new(&mut stream).poll_next(&mut Context::from_waker(Waker::noop()));
    let decoded = match polled {
        Poll::Ready(Some(decoded)) => decoded,
        Poll::Ready(None) | Poll::Pending => Err(Status::internal("no message")),
    };
    (decoded, connections.bytes())
}
