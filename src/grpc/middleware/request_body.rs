//! A request body whose bytes count against the memory limit as they arrive.

use std::{
    num::NonZero,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http_body::{Frame, SizeHint};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tonic::{Status, body::Body, codegen::Bytes};

use crate::{auth::Identity, error::Error, listen::MemoryReservation};

/// Length of the prefix before each message: a compression flag and the message's length (gRPC over HTTP/2,
/// *Length-Prefixed-Message*).
const PREFIX: usize = 5;

/// A message of more bytes than this is expensive to decode.
const LARGE_MESSAGE: usize = 64 << 10;

/// Limits how many large or compressed messages are decoded at once, because decoding occupies a worker thread that all
/// other calls need, too.
#[derive(Clone, Debug)]
pub struct DecodeLimiter(Arc<Semaphore>);

impl Default for DecodeLimiter {
    /// Half of the available threads, but at least one.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self(Arc::new(Semaphore::new((threads / 2).max(1))))
    }
}

/// The body of a request. The bytes of a message count while they are buffered, and while the decoded message is
/// processed: until the next message arrives or the response begins.
pub(super) struct RequestBody {
    inner: Body,
    reservation: Arc<MemoryReservation>,
    /// The caller, if authenticated.
    identity: Option<Identity>,
    /// Whether part of the body arrived after the call was admitted. The caller's credentials may have become invalid
    /// since, so they are checked again.
    arrived_late: bool,
    /// Counted bytes of complete messages.
    complete_bytes: usize,
    /// Counted bytes of the incomplete message.
    partial_bytes: usize,
    /// The prefix of the incomplete message, as far as it has arrived.
    prefix: [u8; PREFIX],
    /// Whether a message is complete.
    complete: bool,
    /// Whether another message has begun after a complete one.
    has_second_message: bool,
    /// Whether a complete message is expensive to decode and needs a permit.
    is_expensive: bool,
    /// `None` if the RPC's requests are a stream, because the caller may wait any time between two requests while it
    /// holds a permit.
    decode_limiter: Option<DecodeLimiter>,
    /// The frame that completes an expensive message, until the permit is acquired.
    waiting_frame: Option<(Frame<Bytes>, PendingPermit)>,
    /// Held while the message is decoded: until the decoder polls for the next frame.
    permit: Option<OwnedSemaphorePermit>,
}

type PendingPermit =
    Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

impl RequestBody {
    pub(super) fn wrap(
        inner: Body,
        reservation: Arc<MemoryReservation>,
        identity: Option<Identity>,
        decode_limiter: Option<DecodeLimiter>,
    ) -> Body {
        Body::new(Self {
            inner,
            reservation,
            identity,
            arrived_late: false,
            complete_bytes: 0,
            partial_bytes: 0,
            prefix: [0; PREFIX],
            complete: false,
            has_second_message: false,
            is_expensive: false,
            decode_limiter,
            waiting_frame: None,
            permit: None,
        })
    }

    /// Counts the bytes of a frame.
    fn count(&mut self, mut data: &[u8]) {
        if data.is_empty() {
            return;
        }
        // The decoder asks for more data only after it has decoded all complete messages.
        self.reservation
            .subtract(std::mem::take(&mut self.complete_bytes));
        self.reservation.add(data.len());
        while !data.is_empty() {
            self.has_second_message |= self.complete;
            let end = match self.partial_bytes {
                0..PREFIX => PREFIX,
                _ => self.message_size(),
            };
            let (part, rest) = data.split_at(data.len().min(end - self.partial_bytes));
            let of_prefix = self
                .prefix
                .get_mut(self.partial_bytes..self.partial_bytes + part.len());
            if let Some(of_prefix) = of_prefix {
                of_prefix.copy_from_slice(part);
            }
            self.partial_bytes += part.len();
            data = rest;
            if self.partial_bytes >= PREFIX && self.partial_bytes == self.message_size() {
                self.complete = true;
                self.is_expensive |= self.prefix[0] != 0 || self.partial_bytes > LARGE_MESSAGE;
                self.complete_bytes += std::mem::take(&mut self.partial_bytes);
            }
        }
    }

    /// The size of the current message with its prefix, in bytes; valid once the prefix is complete.
    fn message_size(&self) -> usize {
        let [_, length @ ..] = self.prefix;
        PREFIX.saturating_add(u32::from_be_bytes(length) as usize)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        self.reservation
            .hold_until_response(self.complete_bytes + self.partial_bytes);
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.permit = None;
        if let Some((_, permit)) = &mut self.waiting_frame {
            // The semaphore is never closed.
            self.permit = ready!(permit.as_mut().poll(cx)).ok();
            let frame = self.waiting_frame.take().map(|(frame, _)| Ok(frame));
            return Poll::Ready(frame);
        }
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            self.arrived_late = true;
            return Poll::Pending;
        };
        if self.arrived_late
            && let Some(identity) = &self.identity
            && let Err(refusal) = identity.revalidate()
        {
            return Poll::Ready(Some(Err(Error::from(refusal).into())));
        }
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame);
        };
        if let Some(data) = frame.data_ref() {
            self.count(data);
        }
        // tonic would decode all messages of a unary request and use the first one.
        if self.has_second_message && self.decode_limiter.is_some() {
            return Poll::Ready(Some(Err(Status::internal("more than one message"))));
        }
        if std::mem::take(&mut self.is_expensive)
            && let Some(DecodeLimiter(permits)) = &self.decode_limiter
        {
            let permit = Box::pin(permits.clone().acquire_owned());
            self.waiting_frame = Some((frame, permit));
            return self.poll_frame(cx);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting_frame.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
