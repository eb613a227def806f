//! The text formats of metrics: OpenMetrics for clients that accept it, such as Prometheus, and otherwise Prometheus'
//! older text format, which all scrapers support.

use std::fmt;

use axum::http::{HeaderMap, header::ACCEPT};
use prometheus_client::{encoding::text::encode, registry::Registry};

/// OpenMetrics 1.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// Prometheus' text format.
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics as text, and its content type.
pub(super) fn render(
    registry: &Registry,
    headers: &HeaderMap,
) -> Result<(&'static str, String), fmt::Error> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    let mut accepted = headers.get_all(ACCEPT).iter();
    let open = accepted.any(|value| {
        let value = value.to_str().unwrap_or_default();
        value.contains("application/openmetrics-text")
    });
    Ok(if open {
        (OPEN_METRICS, text)
    } else {
        (PLAIN, plain(&text))
    })
}

/// Converts OpenMetrics text to the older format, which has no units and no end marker, and names a counter with the
/// suffix `_total` of its sample.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut help = None;
    for line in text.lines() {
        let Some(comment) = line.strip_prefix("# ") else {
            plain.push_str(line);
            plain.push('\n');
            continue;
        };
        let mut words = comment.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("HELP"), Some(_), told) => help = told,
            (Some("TYPE"), Some(name), Some(kind)) => {
                let total = if kind == "counter" { "_total" } else { "" };
                let help = help.take().unwrap_or_default();
                plain.push_str(&format!(
                    "# HELP {name}{total} {help}\n# TYPE {name}{total} {kind}\n"
                ));
            }
            _ => {}
        }
    }
    plain
}
