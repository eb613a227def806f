//! Reloads the log filter when the configuration file changes.

use std::{ffi::OsString, time::Duration};

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::Targets;

use super::{Config, LoadError, Loaded};

/// How often the file is checked for changes.
const INTERVAL: Duration = Duration::from_secs(1);

/// Checks the file for changes periodically, and at once on SIGHUP; passes its `log` setting to `set_log`. An invalid file is logged once and changes
/// nothing; settings other than `log` need a restart. Without a file, SIGHUP is ignored: the handler stays
/// installed, so that it doesn't end the process.
pub async fn watch_file(loaded: &Loaded, args: Vec<OsString>, set_log: impl Fn(Targets)) {
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
                set_log(loaded.config.observability.log);
                tracing::info!(
                    "configuration file changed: log filter reloaded, other settings require a restart"
                );
            }
            Err(LoadError::Invalid(errors)) => {
                let errors = errors.join("; ");
                tracing::warn!(
                    "invalid configuration file, keeping the current settings: {errors}"
                );
            }
            // The command line hasn't changed, and was valid at startup.
            Err(LoadError::Usage(_)) => {}
        }
    }
}
