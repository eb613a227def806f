//! The layer around every call: authentication, permissions, rate and memory limits, the deadline, a server span that
//! continues the caller's trace, metrics, and one log line.

mod admission;
mod call;
mod call_future;
mod deadline;
mod headers;
mod non_grpc;
mod request_body;
mod response_body;

use std::{
    collections::HashMap,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tonic::{Code, body::Body};
use tower::{Layer, Service};

use self::{
    call::{Call, UNKNOWN_METHOD},
    call_future::CallFuture,
    request_body::RequestBody,
    response_body::ResponseBody,
};
pub use self::{deadline::Deadlines, request_body::DecodeLimiter};
use crate::{
    auth::Identity,
    error::{Error, Result},
    listen::Peer,
    metrics::{CallMetrics, RpcMetrics},
};

use super::{
    authorization::{Authorizer, RequiredPermission, required_permission},
    rate_limit::RateLimiter,
};

/// The known RPCs, as `package.Service/Method`, each with the permission it requires. Span names, logs and metrics use
/// no other method names.
#[derive(Clone, Debug)]
pub struct RpcTable(Arc<RpcRequirements>);

#[derive(Debug)]
struct RpcRequirements {
    rpcs: HashMap<String, (RequiredPermission, RpcMetrics)>,
    /// For calls of unknown methods.
    unknown: (RequiredPermission, RpcMetrics),
}

impl RpcTable {
    /// Builds the table for these RPCs.
    ///
    /// # Errors
    /// No permission is configured for one of them.
    pub fn new(
        names: impl IntoIterator<Item = String>,
        calls: &CallMetrics,
    ) -> Result<Self, String> {
        let rpcs = names
            .into_iter()
            .map(|name| match required_permission(&name) {
                Some(required) => {
                    let rpc = calls.for_rpc(&name);
                    Ok((name, (required, rpc)))
                }
                None => Err(format!("no permission is configured for {name}")),
            });
        Ok(Self(Arc::new(RpcRequirements {
            rpcs: rpcs.collect::<Result<_, _>>()?,
            unknown: (
                RequiredPermission::Authenticated,
                calls.for_rpc(UNKNOWN_METHOD),
            ),
        })))
    }
}

/// The layer that observes, authenticates and admits every call of the services below it.
#[derive(Clone, Debug)]
pub struct CallLayer {
    /// The known RPCs.
    pub rpcs: RpcTable,
    /// Authenticates callers.
    pub authorizer: Authorizer,
    /// Default and maximum deadlines.
    pub deadlines: Deadlines,
    /// Limits the call rate of each caller; `None` for no limit.
    pub rate_limiter: Option<Arc<RateLimiter>>,
    /// Limits how many large messages are decoded at once.
    pub decode_limiter: DecodeLimiter,
}

impl<S> Layer<S> for CallLayer {
    type Service = CallService<S>;

    fn layer(&self, inner: S) -> CallService<S> {
        CallService {
            inner,
            layer: Arc::new(self.clone()),
        }
    }
}

/// The service that [`CallLayer`] builds.
#[derive(Clone, Debug)]
pub struct CallService<S> {
    inner: S,
    /// Shared, because the service is cloned for every call.
    layer: Arc<CallLayer>,
}

impl<S> Service<http::Request<Body>> for CallService<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = http::Response<ResponseBody>;
    type Error = S::Error;
    type Future = CallFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    #[expect(
        clippy::async_yields_async,
        reason = "the resulting CallFuture replaces the boxed future instead of being polled inside it"
    )]
    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // tonic's own timer answers CANCELLED. The deadline measured here begins earlier, so it ends first, with
        // DEADLINE_EXCEEDED. A write that has begun is carried out all the same.
        let deadline = deadline::take_timeout(request.headers_mut());
        let path = request.uri().path().trim_start_matches('/');
        let RpcRequirements { rpcs, unknown } = &*self.layer.rpcs.0;
        if let Some((status, mut response)) = non_grpc::reject_non_grpc(&request) {
            let mut call = Call::begin(&request, unknown.1.clone());
            let peer = request.extensions().get::<Peer>();
            if let Some(peer) = peer {
                peer.connection.record_rejection();
            }
            // The unread request body takes memory, so the request counts as a call without credentials. Over the limit
            // of those, the response has no body.
            let mut reserve_memory = |peer: &Peer| {
                call.reserve_memory(
                    &peer.connection,
                    RequiredPermission::Public,
                    request.headers(),
                )
            };
            if peer.is_some_and(|peer| reserve_memory(peer).is_err()) {
                *response.body_mut() = Body::empty();
            }
            // The request is rejected in any case; this counts it against its address, and limits logging beyond the
            // rate limit.
            let _ = self
                .layer
                .check_rate(&mut call, |rate_limiter| rate_limiter.check_address(peer));
            return CallFuture::rejected_with(call, &status, response);
        }
        let (required, rpc) = rpcs.get(path).unwrap_or(unknown);
        let deadline = deadline::effective_deadline(rpc.name(), deadline, self.layer.deadlines);
        let call = Call::begin(&request, rpc.clone());
        let required = *required;
        let identity = self.layer.identify(&request, required);
        if let Err(Error::Unauthenticated) = identity
            && let Some(refresh) = self.layer.wait_for_token_refresh(&request)
        {
            let mut service = self.clone();
            return CallFuture::refreshing_tokens(async move {
                refresh.await;
                let identity = service.layer.identify(&request, required);
                service.dispatch(call, request, identity, required, deadline)
            });
        }
        self.dispatch(call, request, identity, required, deadline)
    }
}

impl<S: Service<http::Request<Body>>> CallService<S> {
    /// Admits a call and passes it to the inner service, or rejects it.
    fn dispatch(
        &mut self,
        mut call: Call,
        mut request: http::Request<Body>,
        identity: Result<Option<Identity>>,
        required: RequiredPermission,
        deadline: Option<Duration>,
    ) -> CallFuture<S::Future> {
        match self.layer.admit(&mut call, &request, identity, required) {
            Err(refused) => {
                if let Some(peer) = request.extensions().get::<Peer>() {
                    peer.connection.record_rejection();
                }
                return CallFuture::rejected(call, refused.into());
            }
            Ok(None) => {}
            Ok(Some(identity)) => {
                request.extensions_mut().insert(identity);
            }
        }
        if let Some(reservation) = call.reservation() {
            let identity = call.identity().cloned();
            let decode_limiter =
                (!call.streams_requests()).then(|| self.layer.decode_limiter.clone());
            request =
                request.map(|body| RequestBody::wrap(body, reservation, identity, decode_limiter));
        }
        let response = call.enter(|| self.inner.call(request));
        CallFuture::running(call, response, deadline)
    }
}

/// The name of a code in the gRPC specification, as OpenTelemetry expects it.
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
