//! Metrics about limits: queues, rejections and connections.

use std::sync::atomic::Ordering;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use super::collector::{MetricsCollector, encode_metric};

pub(super) fn encode_limits(
    encoder: &mut DescriptorEncoder<'_>,
    MetricsCollector {
        db,
        feed,
        rate_limited,
        connections,
        ..
    }: &MetricsCollector,
) -> std::fmt::Result {
    let classes = [
        ("read", db.reads_queued()),
        ("write", db.writes_queued()),
        ("min_revision", db.revision_waiters()),
    ];
    let help = "Queued calls by class, waiting for admission or for a min_revision";
    let name = "group_service_calls_queued";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (class, (queued, _)) in classes {
        let queued = ConstGauge::new(i64::try_from(queued).unwrap_or(i64::MAX));
        queued.encode(family.encode_family(&[("class", class)])?)?;
    }
    let help = "Calls rejected by admission or rate limits, by class and reason";
    let name = "group_service_calls_refused";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    let refused = classes.map(|(class, (_, refused))| (class, "OVERLOADED", refused));
    let others = [
        ("watch", "OVERLOADED", feed.refused()),
        ("public", "OVERLOADED", connections.public_refused()),
        ("any", "RATE_LIMITED", rate_limited.load(Ordering::Relaxed)),
    ];
    for (class, reason, refused) in refused.into_iter().chain(others) {
        let labels = [("class", class), ("reason", reason)];
        ConstCounter::new(refused).encode(family.encode_family(&labels)?)?;
    }
    let number = |count: usize| ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
    encode_metric(
        encoder,
        "connections",
        "Open connections",
        None,
        number(connections.count()),
    )?;
    encode_metric(
        encoder,
        "connections_refused",
        "Connections rejected because a connection limit was reached",
        None,
        ConstCounter::new(connections.refused()),
    )?;
    encode_metric(
        encoder,
        "connections_evicted",
        "Connections evicted while over the message memory limit",
        None,
        ConstCounter::new(connections.evicted()),
    )?;
    encode_metric(
        encoder,
        "connections_unauthenticated_closed",
        "Connections closed without an authenticated call, by timeout or to make room",
        None,
        ConstCounter::new(connections.unauthenticated_closed()),
    )?;
    encode_metric(
        encoder,
        "in_flight_message",
        "Estimated bytes of in-flight requests and responses",
        Some(&Unit::Bytes),
        ConstGauge::new(i64::try_from(connections.bytes()).unwrap_or(i64::MAX)),
    )
}
