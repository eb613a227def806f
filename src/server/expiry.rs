//! Expiry: deleting rows whose retention has ended.

use std::time::Duration;

use crate::store::{self, Db};

/// How often expired rows are looked for.
const INTERVAL: Duration = Duration::from_secs(10);
/// Pause between two batches, which leaves the database to writers.
const BATCH_PAUSE: Duration = Duration::from_millis(10);

/// Deletes expired rows in small batches, so that writers never wait for long.
pub(super) async fn expire(db: &Db, changes_retention: Option<Duration>) {
    let interval = changes_retention.map_or(INTERVAL, |kept| INTERVAL.min(kept / 2));
    let mut clocks_agree = true;
    loop {
        tokio::time::sleep(interval).await;
        let agree = db.clocks_agree();
        if agree != std::mem::replace(&mut clocks_agree, agree) {
            log_clock_skew(db, agree);
        }
        let mut more = true;
        while more && db.clocks_agree() {
            let requests = store::idempotency::delete_expired(db).await;
            let changes = match changes_retention {
                Some(kept) => store::change::expire(db, kept).await,
                None => Ok(false),
            };
            more = matches!(requests, Ok(true)) || matches!(changes, Ok(true));
            for error in [requests.err(), changes.err()].into_iter().flatten() {
                tracing::warn!(error = %error, "cannot delete expired rows");
            }
            tokio::time::sleep(BATCH_PAUSE).await;
        }
    }
}

fn log_clock_skew(db: &Db, agree: bool) {
    if agree {
        tracing::info!("clock skew resolved: expiry resumed");
        return;
    }
    tracing::warn!(
        ahead_seconds = db.clock_difference(),
        "clock skew between this host and the database: expiry paused; synchronize both with NTP; with SQLite, restart the service after correcting the clock"
    );
}
