//! The HTTP endpoints for metrics and probes: `/metrics`, `/livez` and `/readyz`.

mod calls;
mod collector;
mod limits;
mod listener;
mod text;

use std::sync::{Arc, atomic::AtomicU64};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::registry::{Registry, Unit};
use tokio::{net::TcpListener, sync::watch};

use self::collector::MetricsCollector;
use crate::{feed::Feed, listen::Connections, store::Db, tls::Tls};

pub use calls::CallMetrics;
pub(crate) use calls::RpcMetrics;

/// The sources of metrics and probes.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// The database.
    pub(crate) db: Db,
    /// The feed of changes, with its watchers.
    pub(crate) feed: Feed,
    /// The server's certificate, if it uses TLS.
    pub(crate) tls: Option<Arc<Tls>>,
    /// Whether `--insecure` is set.
    pub(crate) insecure: bool,
    /// Call metrics.
    pub(crate) calls: CallMetrics,
    /// The table of connections.
    pub(crate) connections: Connections,
    /// Number of calls that were rejected by the rate limit.
    pub(crate) rate_limited: Arc<AtomicU64>,
    /// Whether the server is ready to serve calls.
    pub(crate) ready: watch::Receiver<bool>,
    /// Whether the process is alive.
    pub(crate) alive: watch::Receiver<bool>,
}

/// Serves the endpoints on `listener`, if there is one, for as long as it is polled.
pub(crate) async fn serve(listener: Option<TcpListener>, metrics: Metrics) {
    let Some(listener) = listener else { return };
    let Metrics {
        db,
        feed,
        tls,
        insecure,
        calls,
        connections,
        rate_limited,
        ready,
        alive,
    } = metrics;
    let mut registry = Registry::default();
    registry.register_with_unit(
        "rpc_server_call_duration",
        "Call duration by method and status code",
        Unit::Seconds,
        calls.durations,
    );
    registry.register(
        "group_service_calls_in_flight",
        "In-flight calls, including watch streams",
        calls.in_flight,
    );
    registry.register_collector(Box::new(MetricsCollector {
        db,
        feed,
        tls,
        insecure,
        connections,
        rate_limited,
    }));
    let registry = Arc::new(registry);
    let exposition = get(
        async move |headers: HeaderMap| match text::render(&registry, &headers) {
            Ok((format, text)) => ([(CONTENT_TYPE, format)], text).into_response(),
            Err(error) => {
                tracing::error!(error = %error, "cannot encode metrics");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        },
    );
    let is_ready = get(async move || {
        if *ready.borrow() {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        }
    });
    let is_alive = get(async move || {
        if *alive.borrow() {
            (StatusCode::OK, "alive\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not alive\n")
        }
    });
    let routes = Router::new()
        .route("/metrics", exposition)
        .route("/livez", is_alive)
        .route("/readyz", is_ready);
    listener::serve(listener, routes).await;
}
