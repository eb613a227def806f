//! Logs and traces: set-up only.

mod filter;
mod format;
mod lines;
mod otlp;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::IsTerminal,
    panic,
};

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Level;
use tracing_subscriber::{Layer, Registry, filter::filter_fn, layer::SubscriberExt};

use crate::config::{Command, Config, LogFormat};

pub use self::{
    filter::LogFilter,
    lines::{Lines, dropped_lines},
    otlp::dropped_spans,
};

/// The log and the traces of this process. Whoever ends the process ends them.
#[derive(Debug)]
pub struct Telemetry {
    /// What is logged, which may be changed.
    pub filter: LogFilter,
    lines: Lines,
    spans: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sets up what this process tells of itself. Only one that serves exports spans.
    ///
    /// # Errors
    /// There can't be another thread, or the log is set up already.
    pub fn start(config: &Config) -> Result<Self, String> {
        let observing = &config.observing;
        let lines = Lines::start().map_err(|error| error.to_string())?;
        let serves = matches!(config.command, Some(Command::Serve) | None);
        let endpoint = observing.otlp_endpoint.as_ref().filter(|_| serves);
        let spans = endpoint.map(|endpoint| otlp::provider(endpoint, observing.otlp_sample));
        let spans = spans.transpose()?;
        let filter = LogFilter::new(observing.log.clone());
        let subscriber = subscriber(
            filter.clone(),
            observing.log_format,
            lines.clone(),
            spans.as_ref(),
        );
        tracing::subscriber::set_global_default(subscriber).map_err(|error| error.to_string())?;
        // By default a panic is printed by the thread itself, which would wait for standard error to be read.
        panic::set_hook(Box::new(|panic| {
            let backtrace = Backtrace::capture();
            match backtrace.status() {
                BacktraceStatus::Captured => tracing::error!("{panic}\n{backtrace}"),
                _ => tracing::error!("{panic}"),
            }
        }));
        Ok(Self {
            filter,
            lines,
            spans,
        })
    }

    /// Lets out what still waits.
    pub async fn end(mut self) {
        if let Some(spans) = self.spans.take() {
            otlp::end(spans).await;
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.lines.flush();
    }
}

/// Makes the process's subscriber: events go to standard error by `lines`, spans to `provider`, if there is one.
///
/// Spans of calls, transactions and statements are kept whatever is logged; the log holds events only,
/// each complete in itself.
pub fn subscriber(
    log: LogFilter,
    format: LogFormat,
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
            log.wants(metadata)
        }
    });
    // Where in the source a span was opened, and on which thread, helps nobody who operates it.
    let traces = provider.map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("group-service"))
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(filter_fn(|metadata| metadata.is_span()))
    });
    let ansi = format == LogFormat::Text && std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt::layer()
        .with_ansi(ansi)
        .event_format(format::Shape::from(format))
        .fmt_fields(format::fields())
        .with_writer(lines)
        // Else they are printed by the thread that logs.
        .log_internal_errors(false)
        .with_filter(filter_fn(|metadata| metadata.is_event()));
    Registry::default().with(traces).with(log).with(wanted)
}
