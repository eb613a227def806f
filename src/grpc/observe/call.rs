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
    grpc::guard::Need,
    listen::{Carrier, Load, Peer, network},
    metrics::Rpc,
    store::CallerKey,
};

/// The names under which calls of unknown methods are counted together, so that nobody can fill the
/// backend with names of their own (OpenTelemetry RPC conventions, `rpc.method`).
pub(super) const OTHER: &str = "_OTHER";
/// Probes ask every few seconds and tools before every call: logged for those who ask for more.
const QUIET: [&str; 2] = ["grpc.health.", REFLECTION];
const REFLECTION: &str = "grpc.reflection.";

/// A call under way. However it ends, it is told of once: when dropped without an end, as cancelled.
#[derive(Debug)]
pub(super) struct Call {
    span: Span,
    rpc: Rpc,
    identity: Option<Identity>,
    /// Whose places in queues it takes.
    caller: Option<CallerKey>,
    peer: Option<SocketAddr>,
    load: Option<Arc<Load>>,
    trace_id: TraceId,
    began: Instant,
    ended: bool,
    /// Whether it is refused like many others, of which the log, or a metric, tells.
    repeated: bool,
}

impl Call {
    /// Opens the span of a call; its attributes are those of OpenTelemetry's RPC conventions.
    pub(super) fn begin(request: &http::Request<Body>, rpc: Rpc) -> Self {
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
        if name == OTHER {
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
            load: None,
            trace_id,
            began: Instant::now(),
            ended: false,
            repeated: false,
        }
    }

    /// Notes who calls.
    pub(super) fn is_of(&mut self, identity: Identity) {
        self.span.record("enduser.id", identity.caller().as_str());
        self.span
            .record("enduser.credential", identity.credential());
        self.caller = Some(identity.key());
        self.identity = Some(identity);
    }

    /// Notes that it is one of many that are refused alike: it is logged for those who ask for more.
    pub(super) fn is_repeated(&mut self) {
        self.repeated = true;
    }

    /// Counts what it has in hand from now on.
    ///
    /// # Errors
    /// Its caller has too many connections, or its connection or address has too many calls without credentials.
    pub(super) fn begin_load(
        &mut self,
        carrier: &Carrier,
        need: Need,
        headers: &HeaderMap,
    ) -> Result<(), Error> {
        if carrier.is_closing() {
            self.repeated = true;
            return Err(Error::Overloaded("its connection is being closed".into()));
        }
        let load = if need == Need::Nothing {
            let refused = "its connection or address has too many calls without credentials";
            carrier.begin_public().ok_or_else(|| {
                // A metric counts these refusals: callers without credentials must not fill the log.
                self.repeated = true;
                Error::Overloaded(refused.into())
            })?
        } else {
            if !carrier.admit(self.identity.as_ref().map(Identity::key)) {
                return Err(Error::Overloaded(
                    "its caller has too many connections".into(),
                ));
            }
            if self.streams_requests() {
                carrier.begin_stream().ok_or_else(|| {
                    self.repeated = true;
                    Error::Overloaded("its connection has too many streams of requests".into())
                })?
            } else {
                carrier.begin()
            }
        };
        load.add(headers::size(headers));
        self.load = Some(Arc::new(load));
        Ok(())
    }

    /// Whether it has many requests: those that it hasn't come to yet wait in HTTP/2's window.
    pub(super) fn streams_requests(&self) -> bool {
        self.rpc.name().starts_with(REFLECTION)
    }

    /// Whose call it is, if that is known.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// Whose call it is, if that is known and it doesn't end by itself.
    pub(super) fn endless_of(&self) -> Option<&Identity> {
        let identity = self.identity.as_ref()?;
        deadline::is_endless(self.rpc.name()).then_some(identity)
    }

    /// Whose places in queues it takes.
    pub(super) fn caller(&self) -> Option<CallerKey> {
        self.caller
    }

    /// What it has in hand.
    pub(super) fn load(&self) -> Option<Arc<Load>> {
        self.load.clone()
    }

    /// The moment at which it has taken so long. Of the call itself: the framework has a timer of its own, which begins
    /// later and must not end first.
    pub(super) fn began_plus(&self, time: Duration) -> Option<tokio::time::Instant> {
        self.began.checked_add(time).map(Into::into)
    }

    pub(super) fn enter<T>(&self, f: impl FnOnce() -> T) -> T {
        self.span.in_scope(f)
    }

    pub(super) fn instrument<F>(&self, future: F) -> Instrumented<F> {
        future.instrument(self.span.clone())
    }

    /// Ends the call with what it was answered: `code`, for the reasons that `status` has.
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
        let took = self.began.elapsed();
        self.rpc.end((number, name), took.as_secs_f64());
        self.log(code, took, &causes(status));
    }

    fn log(&self, code: Code, took: Duration, causes: &str) {
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(target: "group_service::call", {
                    rpc.method = %self.rpc.name(),
                    rpc.response.status_code = %code_name(code),
                    duration_ms = took.as_micros() as f64 / 1000.0,
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
            _ if self.repeated => line!(debug),
            Code::Unknown | Code::Internal | Code::DataLoss => line!(error),
            Code::Unimplemented => line!(info),
            _ if is_server_error(code) || code == Code::ResourceExhausted => line!(warn),
            _ if QUIET
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
            self.end(&Status::cancelled("the caller hung up"), Code::Cancelled);
        }
    }
}

/// The codes that are the server's fault (OpenTelemetry gRPC conventions, span status).
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

/// The chain of an internal cause, from the outside in: for the log only.
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
