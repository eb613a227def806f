//! A copy of the database to read from, as far as it has come.

use std::{sync::Arc, time::Duration};

use sea_orm::DatabaseConnection;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{
    Db, change,
    engine::{self, Use},
    line::Limits,
    location::Location,
    outage::Outage,
    timing::Statements,
};
use crate::domain::{HistoryId, Revision};

/// How often it is looked how far it has come.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How long looking may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

/// A copy of the database.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) db: engine::Reader,
    prober: DatabaseConnection,
    outage: Arc<Outage>,
    /// Of which history it must be a copy.
    history: HistoryId,
    /// How far it has come; nothing while it isn't to be read from.
    reached: watch::Sender<Option<Revision>>,
}

impl Replica {
    pub(super) fn new(
        location: &Location,
        connections: u32,
        history: HistoryId,
        limits: Limits,
        statements: &Statements,
    ) -> Self {
        let outage = Arc::<Outage>::default();
        Self {
            db: engine::Reader::connect(location, 0, connections, limits, &outage, statements),
            prober: engine::connect(location, 0, Use::Look, 1, &outage),
            outage,
            history,
            reached: watch::Sender::new(None),
        }
    }

    /// Whether it has come as far as this, and not too long ago had all that there is.
    pub(super) fn is_usable(&self, db: &Db, wanted: Revision) -> bool {
        let reached = *self.reached.borrow();
        reached.is_some_and(|reached| reached >= wanted && db.is_recent(reached))
    }

    /// Doesn't read from it until it has been looked at again.
    pub(super) fn doubt(&self) {
        self.reached.send_replace(None);
    }

    pub(super) async fn close(&self) {
        // What can't be closed is gone already.
        let _ = self.db.close().await;
        let _ = self.prober.close_by_ref().await;
    }
}

impl Db {
    /// Goes on looking how far the replica has come, if there is one.
    pub async fn follow_replica(&self) {
        let Some(replica) = &self.replica else {
            return std::future::pending().await;
        };
        let mut told = true;
        loop {
            let look = change::directory(&replica.prober).with_subscriber(NoSubscriber::default());
            let directory = timeout(LOOK_TIMEOUT, look).await.ok().and_then(Result::ok);
            replica.outage.note(directory.is_some());
            let found = directory
                .filter(|directory| directory.history_id == replica.history)
                .map(|directory| directory.revision);
            replica.reached.send_replace(found);
            // That the primary can't be asked says nothing of the replica.
            let primary = self.revisions.last_look();
            let usable = found.is_some_and(|found| {
                let present = self.revisions.present_at(found);
                present.zip(primary).is_some_and(|(present, primary)| {
                    primary.duration_since(present) < self.max_staleness
                })
            });
            if usable != told {
                told = usable;
                if told {
                    tracing::info!("reads go to the replica again");
                } else {
                    tracing::warn!(
                        "the replica is away or behind, or not one of this database: reads go to the primary"
                    );
                }
            }
            sleep(LOOK_INTERVAL).await;
        }
    }
}
