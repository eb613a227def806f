//! The read replica, and how far its replication has come.

use std::{sync::Arc, time::Duration};

use sea_orm::DatabaseConnection;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{
    Db,
    admission_queue::QueueLimits,
    change,
    engine::{self, ConnectionPurpose},
    location::Location,
    metrics::StatementMetrics,
    outage::Outage,
};
use crate::domain::{HistoryId, Revision};

/// How often the replica is asked for its revision.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Timeout of asking the replica for its revision.
const POLL_TIMEOUT: Duration = Duration::from_secs(5);

/// A read replica.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) db: engine::ReadPool,
    prober: DatabaseConnection,
    outage: Arc<Outage>,
    /// The history of the primary, which the replica must have, too.
    history: HistoryId,
    /// The replica's revision; `None` while it must not be read from.
    replicated: watch::Sender<Option<Revision>>,
}

impl Replica {
    pub(super) fn new(
        location: &Location,
        connections: u32,
        history: HistoryId,
        limits: QueueLimits,
        statements: &StatementMetrics,
    ) -> Self {
        let outage = Arc::<Outage>::default();
        Self {
            db: engine::ReadPool::connect(location, 0, connections, limits, &outage, statements),
            prober: engine::connect(location, 0, ConnectionPurpose::Probe, 1, &outage),
            outage,
            history,
            replicated: watch::Sender::new(None),
        }
    }

    /// Whether the replica has replicated `wanted` and is fresh enough.
    pub(super) fn is_usable(&self, db: &Db, wanted: Revision) -> bool {
        let replicated = *self.replicated.borrow();
        replicated.is_some_and(|replicated| replicated >= wanted && db.is_fresh(replicated))
    }

    /// Stops reads from the replica until the next successful poll.
    pub(super) fn mark_unusable(&self) {
        self.replicated.send_replace(None);
    }

    pub(super) async fn close(&self) {
        // A connection that can't be closed is already lost.
        let _ = self.db.close().await;
        let _ = self.prober.close_by_ref().await;
    }
}

impl Db {
    /// Polls the replica's revision, if there is a replica; never returns.
    pub async fn poll_replica(&self) {
        let Some(replica) = &self.replica else {
            return std::future::pending().await;
        };
        let mut was_usable = true;
        loop {
            let look =
                change::read_directory(&replica.prober).with_subscriber(NoSubscriber::default());
            let directory = timeout(POLL_TIMEOUT, look).await.ok().and_then(Result::ok);
            replica.outage.record_probe(directory.is_some());
            let found = directory
                .filter(|directory| directory.history_id == replica.history)
                .map(|directory| directory.revision);
            replica.replicated.send_replace(found);
            // Staleness is measured from the last observation of the primary: an unreachable primary doesn't make the
            // replica unusable here.
            let primary = self.revisions.last_observed_at();
            let usable = found.is_some_and(|found| {
                let present = self.revisions.last_current_at(found);
                present.zip(primary).is_some_and(|(present, primary)| {
                    primary.duration_since(present) < self.max_staleness
                })
            });
            if usable != was_usable {
                was_usable = usable;
                if was_usable {
                    tracing::info!("reads go to the replica again");
                } else {
                    tracing::warn!(
                        "the replica is away or behind, or not one of this database: reads go to the primary"
                    );
                }
            }
            sleep(POLL_INTERVAL).await;
        }
    }
}
