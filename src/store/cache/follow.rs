//! Keeping up with what other instances commit.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, TransactionTrait};
use tokio::time::timeout;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{Cache, Touched};
use crate::{
    domain::Revision,
    entity::{change, directory},
    error::{Error, Result},
    store::{self, Db},
};

/// Who is so many changes behind forgets everything instead of reading them.
const FAR: u64 = 5_000;
/// How long reading changes may take until it is tried again on another connection.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);
/// How long it takes until reading changes is tried again.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

impl Db {
    /// Goes on removing from memory what other instances change.
    pub async fn follow_changes(&self) {
        let cache = &self.cache;
        if !cache.is_on() {
            return std::future::pending().await;
        }
        let mut revisions = self.revisions();
        loop {
            // The sender lives in `self`, so the channel can't be closed.
            let _ = revisions.wait_for(|known| *known > cache.applied()).await;
            let caught_up = self.catch_up().with_subscriber(NoSubscriber::default());
            // Meanwhile reads go on to be answered from memory until that is too old.
            let caught_up = timeout(CATCH_UP_TIMEOUT, caught_up).await;
            let caught_up = caught_up.unwrap_or_else(|_| {
                Err(Error::Unavailable(
                    "the changes couldn't be read in time".into(),
                ))
            });
            if let Err(error) = caught_up {
                tracing::debug!(error = ?error, "the cache can't catch up with the changes; trying again");
                tokio::time::sleep(RETRY_INTERVAL).await;
            }
        }
    }

    async fn catch_up(&self) -> Result<()> {
        let epoch = self.cache.epoch.load(Ordering::SeqCst);
        let asked = Instant::now();
        let after = self.cache.applied();
        let (directory, rows) = self.health.while_there(self.touched(after)).await?;
        // What a newer version changes by a kind that this one doesn't know may be anything.
        let is_known = rows.iter().all(|row| row.kind.known().is_some());
        let is_whole =
            is_known && rows.len() as u64 <= FAR && directory.oldest_revision <= after.next();
        let rows = is_whole.then_some(&rows[..]);
        self.cache.apply_read(epoch, directory.revision, rows);
        self.revisions.looked(asked, directory.revision);
        Ok(())
    }

    async fn touched(&self, after: Revision) -> Result<(directory::Model, Vec<Touched>)> {
        use change::Column as C;
        let snapshot = self.follower.begin().await?;
        let directory = store::change::directory(&snapshot).await?;
        let rows = change::Entity::find()
            .select_only()
            .columns([C::Kind, C::GroupId, C::RoleId, C::UserId])
            .filter(C::Revision.gt(after))
            .order_by_asc(C::Revision)
            .order_by_asc(C::Ordinal)
            .limit(FAR + 1)
            .into_model()
            .all(&snapshot)
            .await?;
        Ok((directory, rows))
    }
}

impl Cache {
    /// Removes what was changed up to a revision, as it was read from the table; everything, if that can't be told.
    fn apply_read(&self, epoch: u64, to: Revision, rows: Option<&[Touched]>) {
        let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        if self.epoch.load(Ordering::SeqCst) != epoch {
            // It is of what the database has lost.
            return;
        }
        if self.applied() >= to {
            // Those who wrote it here have done so meanwhile. What was found since is right, and stays.
            return;
        }
        let Some(rows) = rows else {
            return self.begin_anew(to);
        };
        rows.iter().for_each(|row| self.remove(row));
        self.applied.store(to.number(), Ordering::SeqCst);
    }
}
