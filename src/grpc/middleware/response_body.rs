//! The response body of a call, up to its end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http_body::{Frame, SizeHint};
use tonic::{Status, body::Body, codegen::Bytes};

use super::Call;
use crate::{auth::AuthenticationError, error::Error, listen::MemoryReservation};

/// A response body that records the call's end, and counts its bytes against the memory limit.
pub struct ResponseBody {
    inner: Body,
    call: Option<Call>,
    /// The call's memory. Response bytes count until they are written to the connection.
    reservation: Option<Arc<MemoryReservation>>,
    /// Resolves when the credentials of a long-lived call become invalid.
    revocation: Option<RevocationFuture>,
}

type RevocationFuture = Pin<Box<dyn Future<Output = AuthenticationError> + Send>>;

impl ResponseBody {
    pub(super) fn untracked(inner: Body) -> Self {
        Self {
            inner,
            call: None,
            reservation: None,
            revocation: None,
        }
    }

    pub(super) fn tracked(
        inner: Body,
        call: Option<Call>,
        reservation: Option<Arc<MemoryReservation>>,
    ) -> Self {
        let identity = call.as_ref().and_then(Call::long_lived_identity).cloned();
        let revocation = identity.map(|identity| -> RevocationFuture {
            Box::pin(async move { identity.wait_until_invalid().await })
        });
        Self {
            inner,
            call,
            reservation,
            revocation,
        }
    }

    /// The final frame, if the caller's credentials have become invalid.
    fn poll_revoked(&mut self, cx: &mut Context<'_>) -> Poll<Frame<Bytes>> {
        let Some(revocation) = &mut self.revocation else {
            return Poll::Pending;
        };
        let status = Status::from(Error::from(ready!(revocation.as_mut().poll(cx))));
        if let Some(mut call) = self.call.take() {
            call.end(&status, status.code());
        }
        *self = Self::untracked(Body::empty());
        let mut trailers = http::HeaderMap::new();
        // Fails only for values that can't be in a header, which our statuses don't contain.
        let _ = status.add_header(&mut trailers);
        Poll::Ready(Frame::trailers(trailers))
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Poll::Ready(last) = self.poll_revoked(cx) {
            return Poll::Ready(Some(Ok(last)));
        }
        // The connection is closing: further frames would cost time and memory, and reach nobody.
        if self
            .reservation
            .as_ref()
            .is_some_and(|reservation| reservation.is_closing())
        {
            *self = Self::untracked(Body::empty());
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
        Poll::Ready(match (frame, &self.reservation) {
            (Some(Ok(frame)), Some(reservation)) => {
                Some(Ok(frame.map_data(|data| reservation.track_write(data))))
            }
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
