//! The format of log lines.

use std::fmt;

use tracing::{Event, Subscriber, field::Field};
use tracing_subscriber::{
    field::MakeExt,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{self, Format, Full, Json, Writer},
    },
    registry::LookupSpan,
};

use crate::config::LogFormat;

/// Formats the fields of an event as text without colours, which would take longer to remove than the rest takes to
/// write.
pub(super) fn fields() -> impl for<'a> FormatFields<'a> + Send + Sync + 'static {
    format::debug_fn(write_field).delimited(" ")
}

fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    if field.name() != "message" {
        return write!(writer, "{}={value:?}", field.name());
    }
    // Messages of libraries may contain anything, such as control characters.
    let text = format!("{value:?}");
    if text.contains(char::is_control) {
        write!(writer, "{}", text.escape_debug())
    } else {
        writer.write_str(&text)
    }
}

/// The formatter of events.
pub(super) enum LineFormat {
    Text(Format<Full>),
    Json(Format<Json>),
}

impl From<LogFormat> for LineFormat {
    fn from(format: LogFormat) -> Self {
        let line = Format::default();
        match format {
            LogFormat::Text => Self::Text(line),
            // Spans are for traces: a log line is flat and complete in itself.
            LogFormat::Json => Self::Json(
                line.json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_span_list(false),
            ),
        }
    }
}

impl<S, N> FormatEvent<S, N> for LineFormat
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
