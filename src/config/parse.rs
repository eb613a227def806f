//! Parsers of setting values. Each error completes a sentence that begins with the setting's name: `it must be …`.

use std::{net::SocketAddr, time::Duration};

use tracing_subscriber::filter::{LevelFilter, Targets};

use crate::domain::{Id, TokenId};

pub(super) fn token_id(text: &str) -> Result<TokenId, String> {
    TokenId::parse(text).ok_or_else(|| "it must be an id, as `token list` tells it".to_owned())
}

pub(super) fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        "it must be an IP address and a port, such as 127.0.0.1:50051 or [::1]:50051".to_owned()
    })
}

pub(super) fn log_filter(text: &str) -> Result<Targets, String> {
    // `Targets` takes a bare word for a target to be logged at every level, so that a misspelt level would be
    // accepted; an empty part would be accepted, too.
    let parts: Vec<_> = text.split(',').map(str::trim).collect();
    let known = |part: &&str| part.contains('=') || part.parse::<LevelFilter>().is_ok();
    let known = parts.iter().all(|part| !part.is_empty() && known(part));
    let targets = known.then(|| parts.join(",").parse().ok());
    targets.flatten().ok_or_else(|| {
        "it must be error, warn, info, debug, trace or off, or a list such as info,sea_orm=debug"
            .to_owned()
    })
}

pub(super) fn otlp_endpoint(text: &str) -> Result<String, String> {
    let uri: Option<http::Uri> = text.parse().ok();
    let known = uri.is_some_and(|uri| {
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        // A password in the URL could be logged: credentials belong into the variable OTEL_EXPORTER_OTLP_HEADERS.
        let open = uri
            .authority()
            .is_some_and(|one| !one.as_str().contains('@'));
        scheme && open && matches!(uri.path(), "" | "/") && uri.query().is_none()
    });
    known.then(|| text.to_owned()).ok_or_else(|| {
        "it must be http:// or https:// and a host and port, such as http://127.0.0.1:4317"
            .to_owned()
    })
}

pub(super) fn ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok();
    ratio
        .filter(|ratio| (0.0..=1.0).contains(ratio))
        .ok_or_else(|| "it must be a number from 0 to 1, such as 0.1".to_owned())
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let units = [
        ("ms", 1),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
    ];
    let millis = units.iter().find_map(|(unit, millis)| {
        let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
        Some(u64::from(number) * millis)
    });
    match millis {
        Some(millis @ 1..) => Ok(Duration::from_millis(millis)),
        _ => Err(
            "it must be a number of days, hours, minutes, seconds or milliseconds, such as 90d, 12h, 30m, 60s or 250ms"
                .to_owned(),
        ),
    }
}

pub(super) fn max_staleness(text: &str) -> Result<Duration, String> {
    let range = Duration::from_secs(1)..=Duration::from_secs(60);
    let time = duration(text)?;
    let known = range.contains(&time).then_some(time);
    known.ok_or_else(|| "it must be from 1s to 1m".to_owned())
}

pub(super) fn size(text: &str) -> Result<u64, String> {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10)];
    let bytes = units.iter().find_map(|(unit, bits)| {
        let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
        Some(u64::from(number) << bits)
    });
    let bytes = if text == "0" { Some(0) } else { bytes };
    bytes.ok_or_else(|| "it must be 0, or a number of KiB, MiB or GiB, such as 128MiB".to_owned())
}
