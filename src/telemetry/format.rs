//! What a line of the log looks like.

use std::fmt;

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Full, Json, Writer},
    },
    registry::LookupSpan,
};

use crate::config::LogFormat;

/// How an event becomes a line.
pub(super) enum Shape {
    Text(Format<Full>),
    Json(Format<Json>),
}

impl From<LogFormat> for Shape {
    fn from(format: LogFormat) -> Self {
        let line = Format::default();
        match format {
            LogFormat::Text => Self::Text(line),
            // Spans are for traces: a line is complete in itself, and flat.
            LogFormat::Json => Self::Json(
                line.json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_span_list(false),
            ),
        }
    }
}

impl<S, N> FormatEvent<S, N> for Shape
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        match self {
            Self::Text(format) => format.format_event(context, writer, event),
            Self::Json(format) => format.format_event(context, writer, event),
        }
    }
}
