//! Metrics whose values are read at each scrape.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use super::limits::encode_limits;
use crate::{
    feed::Feed,
    listen::Connections,
    store::{CacheCounts, Db, PoolUsage},
    telemetry::{dropped_lines, dropped_spans},
    tls::Tls,
};

/// Reads values from the parts of the server that own them.
#[derive(Debug)]
pub(super) struct MetricsCollector {
    pub(super) db: Db,
    pub(super) feed: Feed,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) insecure: bool,
    pub(super) connections: Connections,
    pub(super) rate_limited: Arc<AtomicU64>,
}

impl Collector for MetricsCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let CacheCounts {
            hits,
            misses,
            loads,
            bytes,
            lag,
        } = self.db.cache_counts();
        let count = ConstCounter::<u64>::new;
        let encoder = &mut encoder;
        encode_limits(encoder, self)?;
        encode_metric(
            encoder,
            "revision",
            "Last revision known to be committed",
            None,
            ConstGauge::new(self.db.revision().number()),
        )?;
        encode_metric(
            encoder,
            "staleness",
            "Staleness of the cache; beyond --max-staleness reads go to the database",
            Some(&Unit::Seconds),
            ConstGauge::new(self.db.staleness().as_secs_f64()),
        )?;
        encode_metric(
            encoder,
            "clock_skew",
            "Clock skew of this host against the database, positive if ahead; beyond 10 s expiry pauses",
            Some(&Unit::Seconds),
            ConstGauge::new(self.db.clock_difference()),
        )?;
        encode_metric(
            encoder,
            "cache_lag_revisions",
            "Revisions not yet applied to the cache",
            None,
            ConstGauge::new(lag),
        )?;
        encode_metric(encoder, "cache_hits", "Cache hits", None, count(hits))?;
        encode_metric(
            encoder,
            "cache_misses",
            "Cache misses of cacheable reads",
            None,
            count(misses),
        )?;
        encode_metric(encoder, "cache_loads", "Cache loads", None, count(loads))?;
        encode_metric(
            encoder,
            "cache_size",
            "Estimated cache size",
            Some(&Unit::Bytes),
            ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX)),
        )?;
        encode_metric(
            encoder,
            "insecure",
            "1 if --insecure is set",
            None,
            ConstGauge::new(i64::from(self.insecure)),
        )?;
        encode_metric(
            encoder,
            "write_retries",
            "Write transactions retried after a conflict",
            None,
            count(self.db.retries()),
        )?;
        encode_metric(
            encoder,
            "database_available",
            "1 if the last database probe succeeded",
            None,
            ConstGauge::new(i64::from(self.db.is_available())),
        )?;
        encode_metric(
            encoder,
            "watchers",
            "Open WatchChanges streams",
            None,
            gauge(self.feed.watchers()),
        )?;
        encode_metric(
            encoder,
            "watcher_lag_revisions",
            "Revisions the slowest watcher is behind",
            None,
            ConstGauge::new(self.feed.lag()),
        )?;
        encode_metric(
            encoder,
            "spans_dropped",
            "Spans dropped because they could not be exported",
            None,
            count(dropped_spans()),
        )?;
        encode_metric(
            encoder,
            "log_lines_dropped",
            "Log lines dropped because standard error was not read",
            None,
            count(dropped_lines()),
        )?;
        if let Some(expires) = self.tls.as_ref().and_then(|tls| tls.expires()) {
            encode_metric(
                encoder,
                "tls_certificate_expiry_timestamp",
                "Expiry of the served TLS certificate as a Unix timestamp",
                Some(&Unit::Seconds),
                ConstGauge::new(i64::try_from(expires).unwrap_or(i64::MAX)),
            )?;
        }
        self.pools(encoder)?;
        self.statements(encoder)
    }
}

impl MetricsCollector {
    fn pools(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut family = encoder.encode_descriptor(
            "group_service_pool_connections",
            "Database connections by pool and state",
            None,
            MetricType::Gauge,
        )?;
        for (pool, PoolUsage { idle, busy }) in self.db.connections() {
            for (state, connections) in [("idle", idle), ("busy", busy)] {
                let labels = [("pool", pool), ("state", state)];
                gauge(connections).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }

    fn statements(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut family = encoder.encode_descriptor(
            "group_service_statement_duration",
            "Statement duration by operation; begin includes waiting for a connection",
            Some(&Unit::Seconds),
            MetricType::Histogram,
        )?;
        for (operation, durations) in self.db.statements().all() {
            durations.encode(family.encode_family(&[("operation", operation)])?)?;
        }
        Ok(())
    }
}

fn gauge(number: usize) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX))
}

pub(super) fn encode_metric(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: impl EncodeMetric,
) -> std::fmt::Result {
    let name = format!("group_service_{name}");
    metric.encode(encoder.encode_descriptor(&name, help, unit, metric.metric_type())?)
}
