//! The time that a caller gives a call.

use std::time::Duration;

use http::HeaderMap;

/// What is watched rather than answered.
const ENDLESS: [&str; 4] = [
    "groups.v1.ChangeService/WatchChanges",
    "grpc.health.v1.Health/Watch",
    "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
];

/// How long calls may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// If the caller doesn't say.
    pub default: Duration,
    /// Whatever the caller says.
    pub max: Duration,
}

/// Whether an RPC ends only when its caller wants.
pub(super) fn is_endless(rpc: &str) -> bool {
    ENDLESS.contains(&rpc)
}

/// How long an RPC may take until its answer begins. A feed ends when its follower wants.
pub(super) fn of(rpc: &str, said: Option<Duration>, deadlines: Deadlines) -> Option<Duration> {
    let Deadlines { default, max } = deadlines;
    match said {
        None if is_endless(rpc) => None,
        None => Some(default),
        Some(said) => Some(said.min(max)),
    }
}

/// Takes the deadline out of a request's headers, so that nobody else acts on it.
///
/// `grpc-timeout` is at most 8 digits and a unit (gRPC over HTTP/2, *Requests*). What isn't is passed over.
pub(super) fn take(headers: &mut HeaderMap) -> Option<Duration> {
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
