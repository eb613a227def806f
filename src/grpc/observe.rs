//! Around every call: a server span that continues the caller's trace, and one line in the log.

mod admit;
mod answering;
mod call;
mod deadline;
mod headers;
mod protocol;
mod request;

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body::{Frame, SizeHint};
use tonic::{Code, Status, body::Body, codegen::Bytes};
use tower::{Layer, Service};

use self::{
    answering::Answering,
    call::{Call, OTHER},
    request::CountedBody,
};
pub use self::{deadline::Deadlines, request::Decoding};
use crate::{
    auth::{Identity, Refusal},
    error::{Error, Result},
    listen::{Load, Peer},
    metrics::{Calls, Rpc},
};

use super::{
    guard::{Guard, Need, need},
    rate::Rate,
};

/// The RPCs that exist, as `package.Service/Method`: what spans and logs may be named after, and what they need.
#[derive(Clone, Debug)]
pub struct Methods(Arc<Known>);

#[derive(Debug)]
struct Known {
    rpcs: HashMap<String, (Need, Rpc)>,
    /// All others.
    other: (Need, Rpc),
}

impl Methods {
    /// Those of these names.
    ///
    /// # Errors
    /// It isn't said what one of them needs.
    pub fn new(names: impl IntoIterator<Item = String>, calls: &Calls) -> Result<Self, String> {
        let rpcs = names.into_iter().map(|name| match need(&name) {
            Some(need) => {
                let rpc = calls.of(&name);
                Ok((name, (need, rpc)))
            }
            None => Err(format!("it isn't said which permission {name} needs")),
        });
        Ok(Self(Arc::new(Known {
            rpcs: rpcs.collect::<Result<_, _>>()?,
            other: (Need::Identity, calls.of(OTHER)),
        })))
    }
}

/// Observes every call of the services below it, and lets those in who may come in.
#[derive(Clone, Debug)]
pub struct ObserveLayer {
    /// Which calls there are.
    pub methods: Methods,
    /// Who may come in.
    pub guard: Guard,
    /// How long calls may take.
    pub deadlines: Deadlines,
    /// How often callers may call; as often as they like if nothing is said.
    pub rate: Option<Arc<Rate>>,
    /// Who decodes large messages.
    pub decoding: Decoding,
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe {
            inner,
            layer: Arc::new(self.clone()),
        }
    }
}

/// The service that [`ObserveLayer`] makes.
#[derive(Clone, Debug)]
pub struct Observe<S> {
    inner: S,
    /// Shared: the service is cloned for every call.
    layer: Arc<ObserveLayer>,
}

impl<S> Service<http::Request<Body>> for Observe<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<ObservedBody>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[expect(
        clippy::async_yields_async,
        reason = "what a look-up leads to is polled in its place, not in its box"
    )]
    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // The framework would answer CANCELLED. A write under way is carried out all the same.
        let deadline = deadline::take(request.headers_mut());
        let path = request.uri().path().trim_start_matches('/');
        let Known { rpcs, other } = &*self.layer.methods.0;
        if let Some((status, mut response)) = protocol::refuse(&request) {
            let mut call = Call::begin(&request, other.1.clone());
            let peer = request.extensions().get::<Peer>();
            // A body that nobody reads takes memory: it counts as that of a call without credentials does, and is left
            // out beyond their limits.
            let counted =
                peer.map(|peer| call.begin_load(&peer.carrier, Need::Nothing, request.headers()));
            if let Some(Err(_)) = counted {
                *response.body_mut() = Body::empty();
            }
            // It is refused anyhow.
            let _ = self.layer.count(&mut call, |rate| rate.count_address(peer));
            return Answering::refused_with(call, &status, response);
        }
        let (need, rpc) = rpcs.get(path).unwrap_or(other);
        let deadline = deadline::of(rpc.name(), deadline, self.layer.deadlines);
        let call = Call::begin(&request, rpc.clone());
        let need = *need;
        let identity = self.layer.identify(&request, need);
        if let Err(Error::Unauthenticated) = identity
            && let Some(looked_up) = self.layer.look_up(&request)
        {
            let mut service = self.clone();
            return Answering::looking_up(async move {
                looked_up.await;
                let identity = service.layer.identify(&request, need);
                service.answer(call, request, identity, need, deadline)
            });
        }
        self.answer(call, request, identity, need, deadline)
    }
}

impl<S: Service<http::Request<Body>>> Observe<S> {
    /// Has a call carried out, if it is let in.
    fn answer(
        &mut self,
        mut call: Call,
        mut request: http::Request<Body>,
        identity: Result<Option<Identity>>,
        need: Need,
        deadline: Option<Duration>,
    ) -> Answering<S::Future> {
        match self.layer.admit(&mut call, &request, identity, need) {
            Err(refused) => return Answering::refused(call, refused.into()),
            Ok(None) => {}
            Ok(Some(identity)) => {
                request.extensions_mut().insert(identity);
            }
        }
        if let Some(load) = call.load() {
            let identity = call.identity().cloned();
            let decoding = (!call.streams_requests()).then(|| self.layer.decoding.clone());
            request = request.map(|body| CountedBody::wrap(body, load, identity, decoding));
        }
        let response = call.enter(|| self.inner.call(request));
        Answering::under_way(call, response, deadline)
    }
}

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
    fn unobserved(inner: Body) -> Self {
        Self {
            inner,
            call: None,
            load: None,
            unknown: None,
        }
    }

    fn observed(inner: Body, call: Option<Call>, load: Option<Arc<Load>>) -> Self {
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

/// The name that a code has in the gRPC specification, as OpenTelemetry wants it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
