//! Set-up of logs and traces.

mod filter;
mod format;
mod log_writer;
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
    log_writer::{LogWriter, dropped_lines},
    otlp::dropped_spans,
};

/// The process's log and traces. The end of the process must not skip [`Self::shutdown`] or the drop, which write what
/// is buffered.
#[derive(Debug)]
pub struct Telemetry {
    /// The log filter, which can be changed while the process runs.
    pub filter: LogFilter,
    log_writer: LogWriter,
    spans: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sets up logs and traces. Only a serving process exports spans.
    ///
    /// # Errors
    /// A thread can't be started, `--otlp-endpoint` is invalid, or the log is set up already.
    pub fn start(config: &Config) -> Result<Self, String> {
        let observability = &config.observability;
        let log_writer = LogWriter::start().map_err(|error| error.to_string())?;
        let serves = matches!(config.command, Some(Command::Serve) | None);
        let endpoint = observability.otlp_endpoint.as_ref().filter(|_| serves);
        let spans = endpoint.map(|endpoint| otlp::provider(endpoint, observability.otlp_sample));
        let spans = spans.transpose()?;
        let filter = LogFilter::new(observability.log.clone());
        let subscriber = subscriber(
            filter.clone(),
            observability.log_format,
            log_writer.clone(),
            spans.as_ref(),
        );
        tracing::subscriber::set_global_default(subscriber).map_err(|error| error.to_string())?;
        // The default hook writes to standard error on the panicking thread, which would block while standard error
        // isn't read.
        panic::set_hook(Box::new(|panic| {
            let backtrace = Backtrace::capture();
            match backtrace.status() {
                BacktraceStatus::Captured => tracing::error!("{panic}\n{backtrace}"),
                _ => tracing::error!("{panic}"),
            }
        }));
        Ok(Self {
            filter,
            log_writer,
            spans,
        })
    }

    /// Exports the remaining spans, and writes the remaining log lines.
    pub async fn shutdown(mut self) {
        if let Some(spans) = self.spans.take() {
            otlp::shutdown(spans).await;
        }
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        self.log_writer.flush();
    }
}

/// Builds the process's subscriber: events go to standard error through `log_writer`, spans to `provider`, if there is
/// one.
///
/// Spans of calls, transactions and statements are exported independently of the log filter. The log contains events
/// only, each of which is complete in itself.
pub fn subscriber(
    log: LogFilter,
    format: LogFormat,
    log_writer: LogWriter,
    provider: Option<&SdkTracerProvider>,
) -> impl tracing::Subscriber + use<> {
    // A global filter: callsites that it rejects cost nothing afterwards. With a filter for each layer only, spans that
    // no layer wants would still be created, and libraries below have spans around each HTTP/2 frame.
    let traced = provider.is_some();
    let wanted = filter_fn(move |metadata| {
        if metadata.is_span() {
            traced && *metadata.level() <= Level::INFO
        } else {
            log.enabled(metadata)
        }
    });
    // The source location and thread of a span don't help operators.
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
        .event_format(format::LineFormat::from(format))
        .fmt_fields(format::fields())
        .with_writer(log_writer)
        // Otherwise these are written to standard error by the logging thread.
        .log_internal_errors(false)
        .with_filter(filter_fn(|metadata| metadata.is_event()));
    Registry::default().with(traces).with(log).with(wanted)
}
