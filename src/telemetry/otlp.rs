//! Spans on their way to a collector (OTLP over gRPC). Calls never wait for it: spans wait in a queue with an end,
//! and what finds it full, or can't be sent, is dropped and counted.

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

/// How many spans may wait to be sent.
const QUEUE: usize = 4096;
/// How many are sent at once.
const BATCH: usize = 512;
/// How long a span waits for others.
const DELAY: Duration = Duration::from_secs(1);
/// How long sending may take, with what is tried again.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the end waits for what is still to be sent: beside the calls' own end it makes up 10 seconds.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// How often it is said that spans can't be sent.
const SAY_INTERVAL: Duration = Duration::from_secs(60);
/// What a driver's error says may quote what somebody typed: it stays in the log of errors, which doesn't leave.
const MESSAGE: &str = "exception.message";

/// Of the process, as its subscriber is.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many spans were dropped since the start, because the collector didn't take them.
#[must_use]
pub fn dropped_spans() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Makes what sends spans to `endpoint`: of calls that their callers trace, and of this part of the others.
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
    let exporter = Exporter {
        inner: exporter,
        waiting: waiting.clone(),
        said: Mutex::default(),
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
        .with_span_processor(Queue {
            inner: BatchSpanProcessor::builder(exporter)
                .with_batch_config(settings)
                .build(),
            waiting,
        })
        .build())
}

/// Sends what still waits.
pub(super) async fn end(provider: SdkTracerProvider) {
    let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(END_TIMEOUT));
    if !matches!(ended.await, Ok(Ok(()))) {
        tracing::warn!("the last spans couldn't be sent");
    }
}

/// The queue, which counts what it can't take.
#[derive(Debug)]
struct Queue {
    inner: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
}

impl SpanProcessor for Queue {
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

/// What sends them.
#[derive(Debug)]
struct Exporter {
    inner: opentelemetry_otlp::SpanExporter,
    waiting: Arc<AtomicUsize>,
    /// When it was last said that they can't be sent.
    said: Mutex<Option<Instant>>,
}

impl SpanExporter for Exporter {
    async fn export(&self, mut batch: Vec<SpanData>) -> OTelSdkResult {
        let count = batch.len();
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        for span in &mut batch {
            span.attributes
                .retain(|attribute| attribute.key.as_str() != MESSAGE);
        }
        let sent = self.inner.export(batch).await;
        if let Err(error) = &sent {
            DROPPED.fetch_add(count as u64, Ordering::Relaxed);
            let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            if said.is_none_or(|said| said.elapsed() >= SAY_INTERVAL) {
                *said = Some(Instant::now());
                tracing::warn!(
                    error = %error,
                    spans.dropped = dropped_spans(),
                    "spans can't be sent to the collector: they are dropped"
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
