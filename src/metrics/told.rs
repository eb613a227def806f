//! What is read when it is asked for.

use std::sync::{Arc, atomic::AtomicU64};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use super::limits::tell_limits;
use crate::{
    feed::Feed,
    listen::Connections,
    store::{CacheCounts, Db, Pool},
    telemetry::{dropped_lines, dropped_spans},
    tls::Tls,
};

/// What is known where it happens, and read when it is asked for.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) db: Db,
    pub(super) feed: Feed,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) insecure: bool,
    pub(super) connections: Connections,
    pub(super) too_often: Arc<AtomicU64>,
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
        tell_limits(encoder, self)?;
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
            "How long ago the state that is kept in memory was last known to be the database's present one. Beyond \
             --max-staleness the database answers",
            Some(&Unit::Seconds),
            ConstGauge::new(self.db.staleness().as_secs_f64()),
        )?;
        tell(
            encoder,
            "clock_difference",
            "By how much this machine's clock is ahead of the directory's time, which is the database's; negative if \
             it is behind. Beyond 10 s nothing expires",
            Some(&Unit::Seconds),
            ConstGauge::new(self.db.clock_difference()),
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
        )?;
        tell(
            encoder,
            "database_available",
            "Whether the last look at the database got through",
            None,
            ConstGauge::new(i64::from(self.db.is_available())),
        )?;
        tell(
            encoder,
            "followers",
            "How many follow the feed of changes",
            None,
            gauge(self.feed.followers()),
        )?;
        tell(
            encoder,
            "feed_lag_revisions",
            "How many revisions the slowest follower is behind",
            None,
            ConstGauge::new(self.feed.lag()),
        )?;
        tell(
            encoder,
            "telemetry_dropped_spans",
            "Spans that were dropped because the collector didn't take them",
            None,
            count(dropped_spans()),
        )?;
        tell(
            encoder,
            "log_lines_dropped",
            "Lines of the log that were dropped because standard error didn't take them",
            None,
            count(dropped_lines()),
        )?;
        if let Some(expires) = self.tls.as_ref().and_then(|tls| tls.expires()) {
            tell(
                encoder,
                "certificate_expiry",
                "When the certificate that is served expires, in Unix time",
                Some(&Unit::Seconds),
                ConstGauge::new(i64::try_from(expires).unwrap_or(i64::MAX)),
            )?;
        }
        self.pools(encoder)?;
        self.statements(encoder)
    }
}

impl Told {
    fn pools(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let mut family = encoder.encode_descriptor(
            "group_service_pool_connections",
            "Connections to the database, by what they are for and whether they are in use",
            None,
            MetricType::Gauge,
        )?;
        for (pool, Pool { idle, busy }) in self.db.connections() {
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
            "How long statements took, by what they do; beginning a transaction includes the wait for a connection",
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

pub(super) fn tell(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: impl EncodeMetric,
) -> std::fmt::Result {
    let name = format!("group_service_{name}");
    metric.encode(encoder.encode_descriptor(&name, help, unit, metric.metric_type())?)
}
