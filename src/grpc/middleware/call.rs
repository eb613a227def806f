//! One call, from its request to its status.

use std::{
    error::Error as StdError,
    fmt::Write,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use http::HeaderMap;
use opentelemetry::trace::TraceId;
use tonic::{Code, Status, body::Body};
use tracing::{Instrument, Span, field::Empty, instrument::Instrumented};

use super::{code_name, deadline, headers};
use crate::{
    auth::Identity,
    error::Error,
    grpc::authorization::RequiredPermission,
    listen::{ConnectionHandle, MemoryReservation, Peer, network},
    metrics::RpcMetrics,
    store::CallerKey,
};

/// The method name under which calls of unknown methods are counted together, so that callers can't fill the metrics
/// backend with names of their own (OpenTelemetry RPC conventions, `rpc.method`).
pub(super) const UNKNOWN_METHOD: &str = "_OTHER";
/// Prefixes of services whose calls are logged at debug level: probes call health every few seconds, and tools call
/// reflection before every call.
const DEBUG_LOGGED: [&str; 2] = ["grpc.health.", REFLECTION];
const REFLECTION: &str = "grpc.reflection.";

/// An in-flight call. Its end is recorded exactly once: if it is dropped before [`Self::end`], it ends as cancelled, or
/// as an internal error while panicking.
#[derive(Debug)]
pub(super) struct Call {
    span: Span,
    rpc: RpcMetrics,
    identity: Option<Identity>,
    /// The key of the caller, by which queues share their capacity among callers.
    caller: Option<CallerKey>,
    peer: Option<SocketAddr>,
    reservation: Option<Arc<MemoryReservation>>,
    trace_id: TraceId,
    began: Instant,
    ended: bool,
    /// Whether the call is logged at debug level only, because a metric or another log line already reports rejections
    /// like this one.
    log_suppressed: bool,
}

impl Call {
    /// Opens the span of a call; its attributes follow OpenTelemetry's RPC conventions.
    pub(super) fn begin(request: &http::Request<Body>, rpc: RpcMetrics) -> Self {
        rpc.begin();
        let name = rpc.name();
        let connection = request.extensions().get::<Peer>();
        let peer = connection.and_then(|connection| connection.remote);
        let local = connection.and_then(|connection| connection.local);
        let span = tracing::info_span!(
            "rpc",
            otel.name = name,
            otel.kind = "server",
            otel.status_code = Empty,
            rpc.system.name = "grpc",
            rpc.method = name,
            rpc.method_original = Empty,
            rpc.response.status_code = Empty,
            error.type = Empty,
            enduser.id = Empty,
            enduser.credential = Empty,
            network.peer.address = peer.map(|peer| tracing::field::display(peer.ip())),
            network.peer.port = peer.map(|peer| peer.port()),
            server.address = local.map(|local| tracing::field::display(local.ip())),
            server.port = local.map(|local| local.port()),
        );
        if name == UNKNOWN_METHOD {
            let path = request.uri().path().trim_start_matches('/');
            span.record("rpc.method_original", path);
        }
        let trace_id = headers::trace_id(&span, request.headers());
        Self {
            span,
            rpc,
            identity: None,
            caller: peer.map(|peer| CallerKey::of_address(network(peer.ip()))),
            peer,
            reservation: None,
            trace_id,
            began: Instant::now(),
            ended: false,
            log_suppressed: false,
        }
    }

    /// Records the authenticated caller in the call and its span.
    pub(super) fn set_identity(&mut self, identity: Identity) {
        self.span.record("enduser.id", identity.caller().as_str());
        self.span
            .record("enduser.credential", identity.credential());
        self.caller = Some(identity.key());
        self.identity = Some(identity);
    }

    /// Logs the call at debug level only, because many others are rejected for the same reason.
    pub(super) fn suppress_log(&mut self) {
        self.log_suppressed = true;
    }

    /// Admits the call on its connection, and counts its memory from now on.
    ///
    /// # Errors
    /// The connection is closing, its caller has too many connections, it has too many request streams, or there are
    /// too many unauthenticated calls on this connection or address.
    pub(super) fn reserve_memory(
        &mut self,
        connection: &ConnectionHandle,
        required: RequiredPermission,
        headers: &HeaderMap,
    ) -> Result<(), Error> {
        if connection.is_closing() {
            self.log_suppressed = true;
            return Err(Error::Overloaded("connection is being evicted".into()));
        }
        let reservation = if required == RequiredPermission::Public {
            let refused = "too many unauthenticated calls on this connection or address";
            connection.begin_public().ok_or_else(|| {
                // A metric counts these rejections: callers without credentials must not fill the log.
                self.log_suppressed = true;
                Error::Overloaded(refused.into())
            })?
        } else {
            if !connection.admit(self.identity.as_ref().map(Identity::key)) {
                return Err(Error::Overloaded(
                    "too many connections of this caller".into(),
                ));
            }
            if self.streams_requests() {
                connection.begin_stream().ok_or_else(|| {
                    self.log_suppressed = true;
                    Error::Overloaded("too many request streams on this connection".into())
                })?
            } else {
                connection.begin_call()
            }
        };
        reservation.add(headers::memory_size(headers));
        self.reservation = Some(Arc::new(reservation));
        Ok(())
    }

    /// Whether the RPC's requests are a stream. Requests that aren't processed yet wait in HTTP/2's flow-control
    /// window.
    pub(super) fn streams_requests(&self) -> bool {
        self.rpc.name().starts_with(REFLECTION)
    }

    /// The caller, if authenticated.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The caller of a long-lived RPC, if authenticated.
    pub(super) fn long_lived_identity(&self) -> Option<&Identity> {
        let identity = self.identity.as_ref()?;
        deadline::is_long_lived(self.rpc.name()).then_some(identity)
    }

    /// The key of the caller, by which queues share their capacity among callers.
    pub(super) fn caller(&self) -> Option<CallerKey> {
        self.caller
    }

    /// The memory reservation, once the call is admitted.
    pub(super) fn reservation(&self) -> Option<Arc<MemoryReservation>> {
        self.reservation.clone()
    }

    /// The instant `time` after the call began; `None` if that can't be represented. tonic has a timer of its own for
    /// the same deadline, which begins later and must not end first.
    pub(super) fn deadline_after(&self, time: Duration) -> Option<tokio::time::Instant> {
        self.began.checked_add(time).map(Into::into)
    }

    pub(super) fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        self.span.in_scope(f)
    }

    pub(super) fn instrument<F>(&self, future: F) -> Instrumented<F> {
        future.instrument(self.span.clone())
    }

    /// Records the end of the call: `code` is what the caller gets, and the sources of `status` go to the log.
    pub(super) fn end(&mut self, status: &Status, code: Code) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let name = code_name(code);
        self.span.record("rpc.response.status_code", name);
        if is_server_error(code) {
            self.span.record("error.type", name);
            self.span.record("otel.status_code", "ERROR");
        }
        let number = usize::try_from(i32::from(code)).unwrap_or_default();
        let elapsed = self.began.elapsed();
        self.rpc.end((number, name), elapsed.as_secs_f64());
        self.log(code, elapsed, &causes(status));
    }

    fn log(&self, code: Code, elapsed: Duration, causes: &str) {
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(target: "group_service::call", {
                    rpc.method = %self.rpc.name(),
                    rpc.response.status_code = %code_name(code),
                    duration_ms = elapsed.as_micros() as f64 / 1000.0,
                    network.peer.address = self.peer.map(|peer| tracing::field::display(peer.ip())),
                    network.peer.port = self.peer.map(|peer| peer.port()),
                    trace_id = %self.trace_id,
                    enduser.id = self.identity.as_ref().map(|one| one.caller().as_str()),
                    enduser.credential = self.identity.as_ref().map(Identity::credential),
                    error = (!causes.is_empty()).then_some(causes),
                }, "call")
            };
        }
        match code {
            _ if self.log_suppressed => line!(debug),
            Code::Unknown | Code::Internal | Code::DataLoss => line!(error),
            Code::Unimplemented => line!(info),
            _ if is_server_error(code) || code == Code::ResourceExhausted => line!(warn),
            _ if DEBUG_LOGGED
                .iter()
                .any(|prefix| self.rpc.name().starts_with(prefix)) =>
            {
                line!(debug)
            }
            _ => line!(info),
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.end(&Status::internal("the call panicked"), Code::Internal);
        } else {
            self.end(
                &Status::cancelled("client cancelled the call"),
                Code::Cancelled,
            );
        }
    }
}

/// Codes that are the server's fault (OpenTelemetry gRPC conventions, span status).
fn is_server_error(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// The chain of sources of a status, outermost first: for the log only.
fn causes(status: &Status) -> String {
    let mut text = String::new();
    let mut next = status.source();
    while let Some(error) = next {
        let separator = if text.is_empty() { "" } else { ": " };
        // Writing to a String can't fail.
        let _ = write!(text, "{separator}{error}");
        next = error.source();
    }
    text
}
