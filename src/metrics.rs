//! What Prometheus is told, over HTTP, and whoever asks whether the process is alive and ready.

mod calls;
mod limits;

use std::sync::Arc;

use axum::{
    Router,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use tokio::{net::TcpListener, sync::watch};

use crate::{
    listen::Connections,
    store::{CacheCounts, Db},
};

pub use calls::Calls;
pub(crate) use calls::Rpc;

/// The format of the text: OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What is told.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// The directory.
    pub(crate) db: Db,
    /// Whether it was told to listen where others can read along.
    pub(crate) insecure: bool,
    /// The calls.
    pub(crate) calls: Calls,
    /// The connections.
    pub(crate) connections: Connections,
    /// Whether calls are answered.
    pub(crate) ready: watch::Receiver<bool>,
}

/// Tells whoever asks on `listener`, if there is one, as long as it is polled.
pub(crate) async fn serve(listener: Option<TcpListener>, metrics: Metrics) {
    let Some(listener) = listener else { return };
    let Metrics {
        db,
        insecure,
        calls,
        connections,
        ready,
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
        insecure,
        connections,
    }));
    let registry = Arc::new(registry);
    let told = get(async move || {
        let mut text = String::new();
        match encode(&mut text, &registry) {
            Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
            Err(error) => {
                tracing::error!(error = %error, "metrics can't be told");
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    });
    let is_ready = get(async move || {
        if *ready.borrow() {
            (StatusCode::OK, "ready\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
        }
    });
    let routes = Router::new()
        .route("/metrics", told)
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", is_ready);
    let served = axum::serve(listener, routes).await;
    if let Err(error) = served {
        tracing::error!(error = %error, "metrics are no longer told");
    }
}

/// What is read when it is asked for.
#[derive(Debug)]
struct Told {
    db: Db,
    insecure: bool,
    connections: Connections,
}

impl Collector for Told {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let CacheCounts {
            answered,
            passed_on,
            loads,
            bytes,
            behind,
        } = self.db.cache_counts();
        let count = ConstCounter::<u64>::new;
        let encoder = &mut encoder;
        limits::tell_limits(encoder, &self.db, &self.connections)?;
        tell(
            encoder,
            "revision",
            "The last revision that is known to be committed",
            None,
            ConstGauge::new(self.db.revision().number()),
        )?;
        tell(
            encoder,
            "revision_age",
            "How long ago the database was last asked for its revision, and answered: what other instances had \
             committed by then is known. Reads from memory without min_revision are behind by no more than this",
            Some(&Unit::Seconds),
            ConstGauge::new(self.db.revision_age().as_secs_f64()),
        )?;
        tell(
            encoder,
            "cache_behind_revisions",
            "How many revisions are known that haven't been applied to what is in memory",
            None,
            ConstGauge::new(behind),
        )?;
        tell(
            encoder,
            "cache_answers",
            "Reads that were answered from memory",
            None,
            count(answered),
        )?;
        tell(
            encoder,
            "cache_misses",
            "Reads that the database was asked for although they may be answered from memory",
            None,
            count(passed_on),
        )?;
        tell(
            encoder,
            "cache_loads",
            "How often something was read into memory",
            None,
            count(loads),
        )?;
        tell(
            encoder,
            "cache_size",
            "What is kept in memory, about",
            Some(&Unit::Bytes),
            ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX)),
        )?;
        tell(
            encoder,
            "insecure",
            "Whether it was told to listen where what is sent can be read and changed on the way",
            None,
            ConstGauge::new(i64::from(self.insecure)),
        )?;
        tell(
            encoder,
            "write_retries",
            "How often a transaction was tried again because others were in its way",
            None,
            count(self.db.retries()),
        )
    }
}

fn tell(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: impl EncodeMetric,
) -> std::fmt::Result {
    let name = format!("group_service_{name}");
    metric.encode(encoder.encode_descriptor(&name, help, unit, metric.metric_type())?)
}
