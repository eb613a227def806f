//! Deadlines of calls.

use std::time::Duration;

use http::HeaderMap;

/// RPCs whose response stream ends only when the caller ends it.
const LONG_LIVED_RPCS: [&str; 4] = [
    "groups.v1.ChangeService/WatchChanges",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// Limits on the duration of calls, until the response begins.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Used if the caller sets no deadline.
    pub default: Duration,
    /// Upper bound of the caller's deadline.
    pub max: Duration,
}

/// Whether an RPC has no end of its own: the caller ends it.
pub(super) fn is_long_lived(rpc: &str) -> bool {
    LONG_LIVED_RPCS.contains(&rpc)
}

/// The time until the response must begin. A long-lived RPC has no deadline unless its caller sets one.
pub(super) fn effective_deadline(
    rpc: &str,
    requested: Option<Duration>,
    deadlines: Deadlines,
) -> Option<Duration> {
    let Deadlines { default, max } = deadlines;
    match requested {
        None if is_long_lived(rpc) => None,
        None => Some(default),
        Some(requested) => Some(requested.min(max)),
    }
}

/// Removes the caller's deadline from the request's headers and returns it, so that no inner service applies it again.
///
/// `grpc-timeout` is at most 8 digits and a unit (gRPC over HTTP/2, *Requests*). A malformed value is ignored.
pub(super) fn take_timeout(headers: &mut HeaderMap) -> Option<Duration> {
    let value = headers.remove("grpc-timeout")?;
    let text = value.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(amount * 3600),
        "M" => Duration::from_secs(amount * 60),
        "S" => Duration::from_secs(amount),
        "m" => Duration::from_millis(amount),
        "u" => Duration::from_micros(amount),
        "n" => Duration::from_nanos(amount),
        _ => return None,
    })
}
