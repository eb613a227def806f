//! What the limits have to do with: lines, refusals, connections.

use std::sync::atomic::Ordering;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use super::told::{Told, tell};

pub(super) fn tell_limits(
    encoder: &mut DescriptorEncoder<'_>,
    Told {
        db,
        feed,
        too_often,
        connections,
        ..
    }: &Told,
) -> std::fmt::Result {
    let classes = [
        ("read", db.reads_queued()),
        ("write", db.writes_queued()),
        ("min_revision", db.revisions_awaited()),
    ];
    let help = "Calls that wait to be carried out";
    let name = "group_service_calls_queued";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (class, (queued, _)) in classes {
        let queued = ConstGauge::new(i64::try_from(queued).unwrap_or(i64::MAX));
        queued.encode(family.encode_family(&[("class", class)])?)?;
    }
    let help = "Calls that were refused because there were too many";
    let name = "group_service_calls_refused";
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    let refused = classes.map(|(class, (_, refused))| (class, "OVERLOADED", refused));
    let others = [
        ("watch", "OVERLOADED", feed.refused()),
        ("public", "OVERLOADED", connections.public_refused()),
        ("any", "RATE_LIMITED", too_often.load(Ordering::Relaxed)),
    ];
    for (class, reason, refused) in refused.into_iter().chain(others) {
        let labels = [("class", class), ("reason", reason)];
        ConstCounter::new(refused).encode(family.encode_family(&labels)?)?;
    }
    let number = |count: usize| ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
    tell(
        encoder,
        "connections",
        "Connections that are open",
        None,
        number(connections.count()),
    )?;
    tell(
        encoder,
        "connections_refused",
        "Connections that were closed at once because there were too many",
        None,
        ConstCounter::new(connections.refused()),
    )?;
    tell(
        encoder,
        "connections_evicted",
        "Connections that were closed because they had the most in hand when that was too much",
        None,
        ConstCounter::new(connections.closed()),
    )?;
    tell(
        encoder,
        "connections_unauthenticated_closed",
        "Connections that were closed because they had no authenticated call, after a time or to make room for others",
        None,
        ConstCounter::new(connections.unauthenticated_closed()),
    )?;
    tell(
        encoder,
        "messages_in_hand",
        "Requests and answers that are under way, about",
        Some(&Unit::Bytes),
        ConstGauge::new(i64::try_from(connections.bytes()).unwrap_or(i64::MAX)),
    )
}
