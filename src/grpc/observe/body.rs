//! The body of a response, until its end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body, codegen::Bytes};

use super::Call;
use crate::{auth::Refusal, error::Error, listen::Load};

/// A response body that is watched to its end.
pub struct ObservedBody {
    inner: Body,
    call: Option<Call>,
    /// What the call has in hand. Its answer is, until it is written to the connection.
    load: Option<Arc<Load>>,
    /// Resolves when the caller of an endless call is no longer known.
    unknown: Option<Unknown>,
}

type Unknown = Pin<Box<dyn Future<Output = Refusal> + Send>>;

impl ObservedBody {
    pub(super) fn unobserved(inner: Body) -> Self {
        Self {
            inner,
            call: None,
            load: None,
            unknown: None,
        }
    }

    pub(super) fn observed(inner: Body, call: Option<Call>, load: Option<Arc<Load>>) -> Self {
        let identity = call.as_ref().and_then(Call::endless_of).cloned();
        let unknown =
            identity.map(|identity| -> Unknown { Box::pin(async move { identity.ended().await }) });
        Self {
            inner,
            call,
            load,
            unknown,
        }
    }

    /// The last frame, if the caller is no longer known.
    fn poll_unknown(&mut self, cx: &mut Context<'_>) -> Poll<Frame<Bytes>> {
        let Some(unknown) = &mut self.unknown else {
            return Poll::Pending;
        };
        let status = Status::from(Error::from(ready!(unknown.as_mut().poll(cx))));
        if let Some(mut call) = self.call.take() {
            call.end(&status, status.code());
        }
        *self = Self::unobserved(Body::empty());
        let mut trailers = http::HeaderMap::new();
        // Fails for what can't be in a header; a status of ours can.
        let _ = status.add_header(&mut trailers);
        Poll::Ready(Frame::trailers(trailers))
    }
}

impl http_body::Body for ObservedBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(last) = self.poll_unknown(cx) {
            return Poll::Ready(Some(Ok(last)));
        }
        // Nobody gets what would be made now: it would take time and memory for nothing.
        if self.load.as_ref().is_some_and(|load| load.is_closing()) {
            *self = Self::unobserved(Body::empty());
            return Poll::Ready(None);
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        let status = match &frame {
            Some(Ok(frame)) => frame.trailers_ref().and_then(Status::from_header_map),
            Some(Err(status)) => Some(status.clone()),
            None => Some(Status::unknown("the response ended without trailers")),
        };
        if let Some(status) = status
            && let Some(mut call) = self.call.take()
        {
            call.end(&status, status.code());
        }
        Poll::Ready(match (frame, &self.load) {
            (Some(Ok(frame)), Some(load)) => Some(Ok(frame.map_data(|data| load.hold(data)))),
            (frame, _) => frame,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
