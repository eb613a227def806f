//! Exports spans to a collector (OTLP over gRPC). Calls never wait for it: spans wait in a bounded queue, and those
//! that find it full or can't be sent are dropped and counted.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{
    WithExportConfig, WithTonicConfig, tonic_types::transport::ClientTlsConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider, Span, SpanData,
        SpanExporter, SpanProcessor,
    },
};
use uuid::Uuid;

/// Maximum number of spans that wait to be sent.
const QUEUE: usize = 4096;
/// Maximum number of spans in one export.
const BATCH: usize = 512;
/// How long spans are collected before an export.
const DELAY: Duration = Duration::from_secs(1);
/// Timeout of an export, including retries.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long shutdown waits for the remaining spans. Together with draining calls, shutdown takes at most 10 seconds.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);
/// Export errors are logged at most once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(60);
/// Removed from exported spans: a driver's error message may quote user input. The log keeps it.
const EXCEPTION_MESSAGE: &str = "exception.message";

/// Global to the process, like its subscriber.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Number of spans dropped since the process started, because the collector didn't take them.
#[must_use]
pub fn dropped_spans() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Builds the provider that exports spans to `endpoint`: those of calls that their callers trace, and a fraction
/// `sample` of all others.
pub(super) fn provider(endpoint: &str, sample: f64) -> Result<SdkTracerProvider, String> {
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(SEND_TIMEOUT);
    if endpoint.starts_with("https:") {
        exporter = exporter.with_tls_config(ClientTlsConfig::new().with_enabled_roots());
    }
    let exporter = exporter.build();
    let exporter = exporter.map_err(|error| format!("--otlp-endpoint: {error}"))?;
    let waiting = Arc::new(AtomicUsize::new(0));
    let exporter = CountingExporter {
        inner: exporter,
        waiting: waiting.clone(),
        last_logged: Mutex::default(),
    };
    let settings = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(DELAY)
        .build();
    let resource = Resource::builder()
        .with_service_name("group-service")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", Uuid::now_v7().to_string()),
        ])
        .build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(sample)));
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(sampler)
        .with_span_processor(BoundedSpanProcessor {
            inner: BatchSpanProcessor::builder(exporter)
                .with_batch_config(settings)
                .build(),
            waiting,
        })
        .build())
}

/// Exports the remaining spans.
pub(super) async fn shutdown(provider: SdkTracerProvider) {
    let ended =
        tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(SHUTDOWN_TIMEOUT));
    if !matches!(ended.await, Ok(Ok(()))) {
        tracing::warn!("could not export the remaining spans at shutdown");
    }
}

/// Limits the queue of spans, and counts those that it can't take.
#[derive(Debug)]
struct BoundedSpanProcessor {
    inner: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
}

impl SpanProcessor for BoundedSpanProcessor {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.inner.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) < QUEUE {
            self.inner.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Exports spans, and counts those that can't be sent.
#[derive(Debug)]
struct CountingExporter {
    inner: opentelemetry_otlp::SpanExporter,
    waiting: Arc<AtomicUsize>,
    /// When an export error was last logged.
    last_logged: Mutex<Option<Instant>>,
}

impl SpanExporter for CountingExporter {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        for span in &mut batch {
            span.attributes
                .retain(|attribute| attribute.key.as_str() != EXCEPTION_MESSAGE);
        }
        let sent = self.inner.export(batch).await;
        if let Err(error) = &sent {
            DROPPED.fetch_add(count as u64, Ordering::Relaxed);
            let mut last_logged = self
                .last_logged
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if last_logged.is_none_or(|last_logged| last_logged.elapsed() >= LOG_INTERVAL) {
                *last_logged = Some(Instant::now());
                tracing::warn!(
                    error = %error,
                    spans.dropped = dropped_spans(),
                    "cannot export spans to the collector: spans are dropped"
                );
            }
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}
