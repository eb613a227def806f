//! Around every call: a server span that continues the caller's trace, and one line in the log.

mod admit;
mod answering;
mod body;
mod call;
mod deadline;
mod headers;
mod protocol;
mod request;

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tonic::{Code, body::Body};
use tower::{Layer, Service};

use self::{
    answering::Answering,
    body::ObservedBody,
    call::{Call, OTHER},
    request::CountedBody,
};
pub use self::{deadline::Deadlines, request::Decoding};
use crate::{
    auth::Identity,
    error::{Error, Result},
    listen::Peer,
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
            if let Some(peer) = peer {
                peer.carrier.refused();
            }
            // An unread body takes memory, so it counts like a call without credentials. Beyond their limits the response
            // has no body.
            let mut begin_load =
                |peer: &Peer| call.begin_load(&peer.carrier, Need::Nothing, request.headers());
            if peer.is_some_and(|peer| begin_load(peer).is_err()) {
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
            Err(refused) => {
                if let Some(peer) = request.extensions().get::<Peer>() {
                    peer.carrier.refused();
                }
                return Answering::refused(call, refused.into());
            }
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
