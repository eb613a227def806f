//! What Prometheus is told, over HTTP, and whoever asks whether the process is alive and ready.

mod calls;
mod limits;
mod listener;
mod text;
mod told;

use std::sync::{Arc, atomic::AtomicU64};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::registry::{Registry, Unit};
use tokio::{net::TcpListener, sync::watch};

use self::told::Told;
use crate::{feed::Feed, listen::Connections, store::Db, tls::Tls};

pub use calls::Calls;
pub(crate) use calls::Rpc;

/// What is told.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// The directory.
    pub(crate) db: Db,
    /// Who follows its changes.
    pub(crate) feed: Feed,
    /// The certificates, if there are any.
    pub(crate) tls: Option<Arc<Tls>>,
    /// Whether it was told to listen where others can read along.
    pub(crate) insecure: bool,
    /// The calls.
    pub(crate) calls: Calls,
    /// The connections.
    pub(crate) connections: Connections,
    /// How many calls came too often.
    pub(crate) too_often: Arc<AtomicU64>,
    /// Whether calls are answered.
    pub(crate) ready: watch::Receiver<bool>,
    /// Whether the process is alive.
    pub(crate) alive: watch::Receiver<bool>,
}

/// Tells whoever asks on `listener`, if there is one, as long as it is polled.
pub(crate) async fn serve(listener: Option<TcpListener>, metrics: Metrics) {
    let Some(listener) = listener else { return };
    let Metrics {
        db,
        feed,
        tls,
        insecure,
        calls,
        connections,
        too_often,
        ready,
        alive,
    } = metrics;
    let mut registry = Registry::default();
    registry.register_with_unit(
        "rpc_server_call_duration",
        "How long calls took",
        Unit::Seconds,
        calls.durations,
    );
    registry.register(
        "group_service_calls_in_flight",
        "Calls under way, feeds among them",
        calls.in_flight,
    );
    registry.register_collector(Box::new(Told {
        db,
        feed,
        tls,
        insecure,
        connections,
        too_often,
    }));
    let registry = Arc::new(registry);
    let told = get(
        async move |headers: HeaderMap| match text::of(&registry, &headers) {
            Ok((format, text)) => ([(CONTENT_TYPE, format)], text).into_response(),
            Err(error) => {
                tracing::error!(error = %error, "metrics can't be told");
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
        .route("/metrics", told)
        .route("/livez", is_alive)
        .route("/readyz", is_ready);
    listener::serve(listener, routes).await;
}
