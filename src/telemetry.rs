//! Logs and traces: set-up only.

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Level;
use tracing_subscriber::{
    Layer, Registry,
    filter::{FilterExt, Targets, filter_fn},
    layer::SubscriberExt,
};

/// Makes the process's subscriber: events go to standard error, spans to `provider`, if there is one.
///
/// Spans of calls, transactions and statements are kept whatever is logged; the log holds events only,
/// each complete in itself.
pub fn subscriber(
    log: Targets,
    provider: Option<&SdkTracerProvider>,
) -> impl tracing::Subscriber + use<> {
    let spans = filter_fn(|metadata| metadata.is_span() && *metadata.level() <= Level::INFO);
    let events = filter_fn(|metadata| metadata.is_event());
    // Spans that go nowhere aren't made: every call would pay for them.
    let traces = provider.map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("group-service"))
            .with_filter(spans)
    });
    let stderr = std::io::stderr();
    let log = tracing_subscriber::fmt::layer()
        .with_ansi(stderr.is_terminal())
        .with_writer(std::io::stderr)
        .with_filter(events.and(log));
    Registry::default().with(traces).with(log)
}
