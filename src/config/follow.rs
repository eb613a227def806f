//! The configuration file, which may change while it serves: what is logged follows it.

use std::{ffi::OsString, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

use super::{Config, Loaded, Refused};
use crate::telemetry::LogFilter;

/// How often it is looked whether the file has changed.
const INTERVAL: Duration = Duration::from_secs(1);

/// Goes on looking whether the file has changed, and at once at SIGHUP. What is wrong with it is said once, and changes
/// nothing; settings other than `log` take a restart. Without a file SIGHUP changes nothing here, and ends nothing.
pub async fn follow(loaded: &Loaded, args: Vec<OsString>, filter: &LogFilter) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        return;
    };
    let Some(path) = loaded.config.config.as_deref() else {
        return;
    };
    let mut seen = loaded.contents.clone().map(String::into_bytes);
    loop {
        tokio::select! {
            _ = hangup.recv() => {}
            () = tokio::time::sleep(INTERVAL) => {}
        }
        let now = std::fs::read(path).ok();
        if now == seen {
            continue;
        }
        seen = now;
        match Config::load(args.iter().cloned()) {
            Ok(loaded) => {
                filter.set(loaded.config.observing.log);
                tracing::info!(
                    "the configuration file has changed: what is logged follows it, other settings take a restart"
                );
            }
            Err(Refused::Mistakes(mistakes)) => {
                let mistakes = mistakes.join("; ");
                tracing::warn!("the configuration file is wrong, nothing is changed: {mistakes}");
            }
            // The command line is what it was.
            Err(Refused::Usage(_)) => {}
        }
    }
}
