//! A request's body, counted as it comes in.

use std::{
    num::NonZero,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http_body::{Frame, SizeHint};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tonic::{Status, body::Body, codegen::Bytes};

use crate::{auth::Identity, error::Error, listen::Load};

/// Before each message: whether it is compressed, and its length (gRPC over HTTP/2, *Length-Prefixed-Message*).
const PREFIX: usize = 5;

/// A message of more bytes takes its time to be decoded.
const LARGE: usize = 64 << 10;

/// Who decodes large or compressed messages: few at once, as decoding keeps a thread that all other calls need, too.
#[derive(Clone, Debug)]
pub struct Decoding(Arc<Semaphore>);

impl Default for Decoding {
    /// Half of the threads, at most.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self(Arc::new(Semaphore::new((threads / 2).max(1))))
    }
}

/// The body of a request. Its bytes count while they are buffered to be decoded, and while the message that they are
/// of is worked on: until the next message comes, or the response begins.
pub(super) struct CountedBody {
    inner: Body,
    load: Arc<Load>,
    /// Whose request it is, if that is known.
    identity: Option<Identity>,
    /// Whether it wasn't there when the call was let in: its caller may be known no longer when it is.
    waited: bool,
    /// What is counted of whole messages.
    whole: usize,
    /// What is counted of a message that is incomplete.
    partial: usize,
    /// The prefix of that message, as far as it has come in.
    prefix: [u8; PREFIX],
    /// Whether a message is complete, and another one has begun.
    complete: bool,
    further: bool,
    /// Whether a message is complete that takes its time to be decoded.
    heavy: bool,
    /// None where requests are a stream: between two of them, its caller may take any time.
    decoding: Option<Decoding>,
    /// The end of such a message, until it is its turn.
    queued: Option<(Frame<Bytes>, Turn)>,
    /// Until it is decoded: then the next message is asked for.
    turn: Option<OwnedSemaphorePermit>,
}

type Turn = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

impl CountedBody {
    pub(super) fn wrap(
        inner: Body,
        load: Arc<Load>,
        identity: Option<Identity>,
        decoding: Option<Decoding>,
    ) -> Body {
        Body::new(Self {
            inner,
            load,
            identity,
            waited: false,
            whole: 0,
            partial: 0,
            prefix: [0; PREFIX],
            complete: false,
            further: false,
            heavy: false,
            decoding,
            queued: None,
            turn: None,
        })
    }

    /// Counts what has come in.
    fn count(&mut self, mut data: &[u8]) {
        if data.is_empty() {
            return;
        }
        // Another message begins: those before it have been decoded, or no more would be asked for.
        self.load.subtract(std::mem::take(&mut self.whole));
        self.load.add(data.len());
        while !data.is_empty() {
            self.further |= self.complete;
            let end = match self.partial {
                0..PREFIX => PREFIX,
                _ => self.message_size(),
            };
            let (part, rest) = data.split_at(data.len().min(end - self.partial));
            let of_prefix = self.prefix.get_mut(self.partial..self.partial + part.len());
            if let Some(of_prefix) = of_prefix {
                of_prefix.copy_from_slice(part);
            }
            self.partial += part.len();
            data = rest;
            if self.partial >= PREFIX && self.partial == self.message_size() {
                self.complete = true;
                self.heavy |= self.prefix[0] != 0 || self.partial > LARGE;
                self.whole += std::mem::take(&mut self.partial);
            }
        }
    }

    /// How many bytes the message takes, with its prefix, once that is complete.
    fn message_size(&self) -> usize {
        let [_, length @ ..] = self.prefix;
        PREFIX.saturating_add(u32::from_be_bytes(length) as usize)
    }
}

impl Drop for CountedBody {
    fn drop(&mut self) {
        self.load.decoded(self.whole + self.partial);
    }
}

impl http_body::Body for CountedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        self.turn = None;
        if let Some((_, turn)) = &mut self.queued {
            // The semaphore is never closed.
            self.turn = ready!(turn.as_mut().poll(cx)).ok();
            let frame = self.queued.take().map(|(frame, _)| Ok(frame));
            return Poll::Ready(frame);
        }
        let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) else {
            self.waited = true;
            return Poll::Pending;
        };
        if self.waited
            && let Some(identity) = &self.identity
            && let Err(refusal) = identity.check()
        {
            return Poll::Ready(Some(Err(Error::from(refusal).into())));
        }
        let Some(Ok(frame)) = frame else {
            return Poll::Ready(frame);
        };
        if let Some(data) = frame.data_ref() {
            self.count(data);
        }
        // The framework would decode them all, and use the first one.
        if self.further && self.decoding.is_some() {
            return Poll::Ready(Some(Err(Status::internal("more than one message"))));
        }
        if std::mem::take(&mut self.heavy)
            && let Some(Decoding(turns)) = &self.decoding
        {
            let turn = Box::pin(turns.clone().acquire_owned());
            self.queued = Some((frame, turn));
            return self.poll_frame(cx);
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.queued.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
