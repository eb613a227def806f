//! A request's body, counted as it comes in.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body, codegen::Bytes};

use crate::listen::Load;

/// Before each message: whether it is compressed, and its length (gRPC over HTTP/2, *Length-Prefixed-Message*).
const PREFIX: usize = 5;

/// The body of a request. Its bytes count while they are buffered to be decoded, and while the message that they are
/// of is worked on: until the next message comes, or the response begins.
pub(super) struct CountedBody {
    inner: Body,
    load: Arc<Load>,
    /// What is counted of whole messages.
    whole: usize,
    /// What is counted of a message that is incomplete.
    partial: usize,
    /// The prefix of that message, as far as it has come in.
    prefix: [u8; PREFIX],
}

impl CountedBody {
    pub(super) fn wrap(inner: Body, load: Arc<Load>) -> Body {
        Body::new(Self {
            inner,
            load,
            whole: 0,
            partial: 0,
            prefix: [0; PREFIX],
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
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            self.count(data);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
