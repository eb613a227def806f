//! The headers of a call: what they take, and the trace that the caller's is.

use http::HeaderMap;
use opentelemetry::{
    propagation::{Extractor, TextMapPropagator},
    trace::{TraceContextExt, TraceId},
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{IdGenerator, RandomIdGenerator},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// What a header takes beside its text.
const HEADER: usize = 144;

/// What a caller's trace comes in (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// What headers take in memory: each has a place in a table, of which up to half may be free, beside its text.
pub(super) fn size(headers: &HeaderMap) -> usize {
    let text = headers.iter();
    let text = text.map(|(name, value)| name.as_str().len() + value.len());
    HEADER * headers.len() + text.sum::<usize>()
}

/// Continues the caller's trace, if there is one. The log names its calls by it even where nobody collects spans.
pub(super) fn trace_id(span: &Span, headers: &HeaderMap) -> TraceId {
    if span.is_disabled() && !headers.contains_key(TRACEPARENT) {
        return RandomIdGenerator::default().new_trace_id();
    }
    let parent = TraceContextPropagator::new().extract(&Headers(headers));
    let caller = parent.span().span_context().trace_id();
    if span.set_parent(parent).is_ok() {
        span.context().span().span_context().trace_id()
    } else if caller == TraceId::INVALID {
        RandomIdGenerator::default().new_trace_id()
    } else {
        caller
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}
