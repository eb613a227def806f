//! The headers of a call: their memory, and the caller's trace context.

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

/// Memory that a header takes beside its text, in bytes.
const HEADER_OVERHEAD: usize = 144;

/// The header of the caller's trace (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// The memory of headers, in bytes: the text, and an entry for each in a table of which up to half may be empty.
pub(super) fn memory_size(headers: &HeaderMap) -> usize {
    let text = headers.iter();
    let text = text.map(|(name, value)| name.as_str().len() + value.len());
    HEADER_OVERHEAD * headers.len() + text.sum::<usize>()
}

/// Continues the caller's trace, if the request has one, and returns the call's trace id. The log contains the id even
/// if no spans are exported.
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
