//! Hearing of the revisions that other instances commit.

use std::time::{Duration, Instant};

use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::time::{sleep, timeout};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{Db, change, engine::postgres, location::Location};

/// How long it takes until telling of revisions is tried again.
const LISTEN_INTERVAL: Duration = Duration::from_secs(1);

/// How long the database may take to tell its revision.
const LOOK_TIMEOUT: Duration = Duration::from_secs(2);

impl Db {
    /// Learns at once of the revisions that other instances commit, where the database tells of them.
    pub async fn listen(&self) {
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
                    let told = listener.recv().await?;
                    let revision = told.payload().parse().ok();
                    // Not taken at its word: what is given back has been told of, too.
                    if revision.is_some_and(|revision: i64| revision > self.revision().number()) {
                        let asked = Instant::now();
                        let directory = change::directory(&self.follower)
                            .with_subscriber(NoSubscriber::default());
                        if let Ok(Ok(directory)) = timeout(LOOK_TIMEOUT, directory).await {
                            self.revisions.looked(asked, directory.revision);
                        }
                    }
                }
            };
            let mut outage = self.health.outage.ended.subscribe();
            let ended: Result<(), sqlx::Error> = tokio::select! {
                ended = listening => ended,
                // Perhaps on another server.
                _ = outage.changed() => Ok(()),
            };
            tracing::debug!(error = ?ended, "revisions are found out by looking, until they are told again");
            sleep(LISTEN_INTERVAL).await;
        }
    }
}
