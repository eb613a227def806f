//! What the fuzz targets need of what is nobody else's business: built by `cargo fuzz` only.

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
    codec::{self, LimitedCodec, Received},
    domain::{PageToken, Scope},
    grpc,
    listen::{Connections, Limits, load},
};

/// How many entries the lists of a request may have.
pub const MAX_ENTRIES: usize = codec::MAX_ENTRIES;

/// What a call is counted as at least, however little memory messages may take.
pub const CALL: u64 = load::CALL;

/// A page token with a right tag and anything behind it.
#[must_use]
pub fn page_token(scope: &Scope, payload: &[u8]) -> String {
    PageToken::seal(payload, scope)
}

/// The token of a request.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    grpc::bearer(headers)
}

/// Decodes a request as a server does whose messages may take `memory` bytes. Tells what it is counted as, too.
pub fn decode<T: Received + Send + 'static>(
    message: &[u8],
    memory: u64,
) -> (Result<T, Status>, u64) {
    let connections = Connections::new(Limits {
        connections: 1,
        per_address: 1,
        bytes: memory,
        authentication: false,
    });
    let Ok((counted, _closing)) = connections.take(Ipv4Addr::LOCALHOST.into()) else {
        return (Err(Status::internal("no connection")), 0);
    };
    let load = Arc::new(counted.carrier().begin());
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let frame = [&[0][..], &length.to_be_bytes(), message].concat();
    let mut stream = codec::with_load(Some(load), || {
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
