//! Logs and traces: set-up only.

mod lines;

use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Level;
use tracing_subscriber::{
    Layer, Registry,
    filter::{Targets, filter_fn},
    layer::SubscriberExt,
};

pub use self::lines::Lines;

/// Makes the process's subscriber: events go to standard error by `lines`, spans to `provider`, if there is one.
///
/// Spans of calls, transactions and statements are kept whatever is logged; the log holds events only,
/// each complete in itself.
pub fn subscriber(
    log: Targets,
    lines: Lines,
    provider: Option<&SdkTracerProvider>,
) -> impl tracing::Subscriber + use<> {
    // What nobody wants is refused for all layers at once, which costs nothing from then on. What each layer
    // alone refuses is made nevertheless: libraries below have spans around each frame.
    let traced = provider.is_some();
    let wanted = filter_fn(move |metadata| {
        if metadata.is_span() {
            traced && *metadata.level() <= Level::INFO
        } else {
            log.would_enable(metadata.target(), metadata.level())
        }
    });
    let traces = provider.map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("group-service"))
            .with_filter(filter_fn(|metadata| metadata.is_span()))
    });
    let stderr = std::io::stderr();
    let log = tracing_subscriber::fmt::layer()
        .with_ansi(stderr.is_terminal())
        .with_writer(lines)
        .with_filter(filter_fn(|metadata| metadata.is_event()));
    Registry::default().with(traces).with(log).with(wanted)
}
