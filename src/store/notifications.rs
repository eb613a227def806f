//! Notifications of revisions that other instances commit (PostgreSQL `LISTEN`).

use std::time::{Duration, Instant};

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::{sleep, timeout};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{Db, change, engine::postgres, location::Location};

/// How long to wait before listening again after the connection is lost.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// Timeout of reading the revision.
const POLL_TIMEOUT: Duration = Duration::from_secs(2);

impl Db {
    /// Observes revisions of other instances as soon as they are committed. Only PostgreSQL notifies of them; with
    /// other engines this never returns.
    pub async fn listen_for_revisions(&self) {
        let Location::Postgres(servers) = &self.health.location else {
            return std::future::pending().await;
        };
        loop {
            let server = self.health.server();
            let pool = PgPoolOptions::new()
                .max_connections(1)
                .connect_lazy_with(servers.options[server].clone());
            let listening = async {
                let mut listener = PgListener::connect_with(&pool).await?;
                listener.listen(postgres::CHANNEL).await?;
                loop {
                    let notification = listener.recv().await?;
                    let revision = notification.payload().parse().ok();
                    // The payload isn't trusted: a write that only stores a response returns its revision after the
                    // trigger has announced it.
                    if revision.is_some_and(|revision: i64| revision > self.revision().number()) {
                        let asked = Instant::now();
                        let directory = change::read_directory(&self.sync_pool)
                            .with_subscriber(NoSubscriber::default());
                        if let Ok(Ok(directory)) = timeout(POLL_TIMEOUT, directory).await {
                            self.revisions.record_observation(asked, directory.revision);
                        }
                    }
                }
            };
            let mut outage = self.health.outage.ended.subscribe();
            let ended: Result<(), sqlx::Error> = tokio::select! {
                ended = listening => ended,
                // The database may be on another server now.
                _ = outage.changed() => Ok(()),
            };
            tracing::debug!(error = ?ended, "revisions are found out by looking, until they are told again");
            sleep(RECONNECT_INTERVAL).await;
        }
    }
}
