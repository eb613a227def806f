//! What Prometheus is told, over HTTP.

use axum::{Router, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};
use tokio::net::TcpListener;

use crate::store::{CacheCounts, Db};

/// The format of the text: OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Tells whoever asks on `listener`, if there is one, as long as it is polled.
pub(crate) async fn serve(listener: Option<TcpListener>, db: Db, insecure: bool) {
    let Some(listener) = listener else { return };
    let mut registry = Registry::with_prefix("group_service");
    registry.register_collector(Box::new(Told { db, insecure }));
    let registry = std::sync::Arc::new(registry);
    let told = get(async move || {
        let mut text = String::new();
        match encode(&mut text, &registry) {
            Ok(()) => ([(CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
            Err(error) => {
                tracing::error!(error = %error, "metrics can't be told");
                axum::http::StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    });
    let served = axum::serve(listener, Router::new().route("/metrics", told)).await;
    if let Err(error) = served {
        tracing::error!(error = %error, "metrics are no longer told");
    }
}

/// What is read when it is asked for.
#[derive(Debug)]
struct Told {
    db: Db,
    insecure: bool,
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
    metric.encode(encoder.encode_descriptor(name, help, unit, metric.metric_type())?)
}
