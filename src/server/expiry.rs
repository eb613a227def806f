//! Removing what need no longer be kept.

use std::time::Duration;

use crate::store::{self, Db};

/// How often it is looked whether something has expired.
const INTERVAL: Duration = Duration::from_secs(10);
/// How long writers have the database to themselves between two steps of expiry.
const PAUSE: Duration = Duration::from_millis(10);

/// Removes what need no longer be kept, in small steps, so that writers never wait for long.
pub(super) async fn expire(db: &Db, changes_retention: Option<Duration>) {
    let interval = changes_retention.map_or(INTERVAL, |kept| INTERVAL.min(kept / 2));
    let mut clocks_agree = true;
    loop {
        tokio::time::sleep(interval).await;
        let agree = db.clocks_agree();
        if agree != std::mem::replace(&mut clocks_agree, agree) {
            tell_clocks(db, agree);
        }
        let mut more = true;
        while more && db.clocks_agree() {
            let requests = store::request::forget(db).await;
            let changes = match changes_retention {
                Some(kept) => store::change::expire(db, kept).await,
                None => Ok(false),
            };
            more = matches!(requests, Ok(true)) || matches!(changes, Ok(true));
            for error in [requests.err(), changes.err()].into_iter().flatten() {
                tracing::warn!(error = %error, "what has expired can't be removed");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

fn tell_clocks(db: &Db, agree: bool) {
    if agree {
        tracing::info!("the clocks agree again: what is old enough expires again");
        return;
    }
    tracing::warn!(
        ahead_seconds = db.clock_difference(),
        "this machine's clock differs from the database's, and nothing expires: set both by NTP; with SQLite, restart \
         the service once the clock is right"
    );
}
