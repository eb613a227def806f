//! Captures the spans of calls in this process, as an exporter would receive them.

use std::{
    collections::HashMap,
    sync::{Mutex, Once, OnceLock},
    time::Duration,
};

use group_service::{config::LogFormat, telemetry};
use opentelemetry::{
    Context, Value,
    trace::{SpanId, SpanKind, Status, TraceId},
};
use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, Span, SpanData, SpanProcessor},
};
use tokio::sync::watch;

/// The spans of the traces that tests created; others are dropped.
static TRACES: OnceLock<Mutex<HashMap<TraceId, watch::Sender<Vec<Recorded>>>>> = OnceLock::new();

/// A span that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Recorded {
    pub(crate) name: String,
    pub(crate) id: SpanId,
    pub(crate) parent: SpanId,
    pub(crate) kind: SpanKind,
    pub(crate) status: Status,
    pub(crate) attributes: HashMap<String, Value>,
}

impl Recorded {
    pub(crate) fn attribute(&self, key: &str) -> Option<String> {
        self.attributes
            .get(key)
            .map(|value| value.as_str().into_owned())
    }

    /// Whether this is a statement other than begin, commit and rollback.
    pub(crate) fn is_statement(&self) -> bool {
        self.name.starts_with("sea_orm.")
            && !["sea_orm.begin", "sea_orm.commit", "sea_orm.rollback"]
                .contains(&self.name.as_str())
    }
}

/// A caller's trace.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trace {
    id: TraceId,
    pub(crate) caller: SpanId,
}

impl Trace {
    /// Creates a trace and records its spans.
    pub(crate) fn new() -> Self {
        let bytes = group_service::domain::GroupId::generate()
            .uuid()
            .into_bytes();
        let id = TraceId::from_bytes(bytes);
        let caller = SpanId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8]);
        traces()
            .lock()
            .expect("no test panics here")
            .insert(id, watch::Sender::default());
        Self { id, caller }
    }

    /// The `traceparent` header (W3C Trace Context).
    pub(crate) fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.id, self.caller)
    }

    /// Waits for the server span, which ends last, and returns all spans of the trace.
    pub(crate) async fn spans(&self) -> Vec<Recorded> {
        let mut ended = {
            let traces = traces().lock().expect("no test panics here");
            traces.get(&self.id).expect("a trace of `new`").subscribe()
        };
        let server = |spans: &Vec<Recorded>| spans.iter().any(|span| span.kind == SpanKind::Server);
        let spans = tokio::time::timeout(Duration::from_secs(10), ended.wait_for(server)).await;
        spans
            .expect("the call has a server span")
            .expect("never closed")
            .clone()
    }

    /// The number of statements that the call executed.
    pub(crate) async fn statements(&self) -> usize {
        self.spans()
            .await
            .iter()
            .filter(|span| span.is_statement())
            .count()
    }
}

/// Starts capturing the spans of this process.
pub(crate) fn start_recording_spans() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let provider = SdkTracerProvider::builder()
            .with_span_processor(Recorder)
            .build();
        // Optional log, to diagnose tests that only fail on another machine.
        let log = std::env::var("GROUP_SERVICE_TEST_LOG");
        let log = log.as_deref().unwrap_or("off").parse().expect("a filter");
        let log = telemetry::LogFilter::new(log);
        let lines = telemetry::LogWriter::start().expect("a thread");
        let subscriber = telemetry::subscriber(log, LogFormat::Text, lines, Some(&provider));
        tracing::subscriber::set_global_default(subscriber)
            .expect("the first subscriber of this process");
    });
}

fn traces() -> &'static Mutex<HashMap<TraceId, watch::Sender<Vec<Recorded>>>> {
    TRACES.get_or_init(Mutex::default)
}

#[derive(Debug)]
struct Recorder;

impl SpanProcessor for Recorder {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        let traces = traces().lock().expect("no test panics here");
        let Some(spans) = traces.get(&span.span_context.trace_id()) else {
            return;
        };
        let span = Recorded {
            name: span.name.into_owned(),
            id: span.span_context.span_id(),
            parent: span.parent_span_id,
            kind: span.span_kind,
            status: span.status,
            attributes: span
                .attributes
                .into_iter()
                .map(|pair| (pair.key.to_string(), pair.value))
                .collect(),
        };
        spans.send_modify(|spans| spans.push(span));
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
