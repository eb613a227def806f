//! Invalidation of the cache by changes that other instances commit.

use std::{
    sync::{PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, TransactionTrait};
use tokio::time::timeout;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{Cache, Invalidation};
use crate::{
    domain::Revision,
    entity::{change, directory},
    error::{Error, Result},
    store::{self, Db},
};

/// Maximum number of changes to catch up on; with more, the cache is cleared instead.
const MAX_CATCH_UP_CHANGES: u64 = 5_000;
/// How long reading changes may take before it is retried on another connection.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay before reading changes is retried.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

impl Db {
    /// Continuously removes the entries that changes of other instances affect; never returns.
    pub async fn sync_cache(&self) {
        let cache = &self.cache;
        if !cache.is_enabled() {
            return std::future::pending().await;
        }
        let mut revisions = self.revisions();
        loop {
            // The sender lives in `self`, so the channel can't be closed.
            let _ = revisions
                .wait_for(|known| *known > cache.applied_revision())
                .await;
            let caught_up = self.catch_up().with_subscriber(NoSubscriber::default());
            // Meanwhile reads are still answered from the cache, until that is too stale.
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
        let after = self.cache.applied_revision();
        let (directory, rows) = self
            .health
            .while_reachable(self.changes_after(after))
            .await?;
        // A change of a kind that only a newer version knows may affect any entry.
        let is_known = rows.iter().all(|row| row.kind.known().is_some());
        let is_whole = is_known
            && rows.len() as u64 <= MAX_CATCH_UP_CHANGES
            && directory.oldest_revision <= after.next();
        let rows = is_whole.then_some(&rows[..]);
        self.cache
            .invalidate_through(epoch, directory.revision, rows);
        self.revisions.record_observation(asked, directory.revision);
        Ok(())
    }

    async fn changes_after(
        &self,
        after: Revision,
    ) -> Result<(directory::Model, Vec<Invalidation>)> {
        use change::Column as C;
        let snapshot = self.sync_pool.begin().await?;
        let directory = store::change::read_directory(&snapshot).await?;
        let rows = change::Entity::find()
            .select_only()
            .columns([C::Kind, C::GroupId, C::RoleId, C::UserId])
            .filter(C::Revision.gt(after))
            .order_by_asc(C::Revision)
            .order_by_asc(C::Ordinal)
            .limit(MAX_CATCH_UP_CHANGES + 1)
            .into_model()
            .all(&snapshot)
            .await?;
        Ok((directory, rows))
    }
}

impl Cache {
    /// Removes the entries that the changes up to revision `to` affect, as read from the table; `rows` is `None` if not
    /// all of these changes are known, and then the cache is cleared.
    fn invalidate_through(&self, epoch: u64, to: Revision, rows: Option<&[Invalidation]>) {
        let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        if self.epoch.load(Ordering::SeqCst) != epoch {
            // The cache was cleared meanwhile: these changes may be of revisions that the database has lost.
            return;
        }
        if self.applied_revision() >= to {
            // Writes of this instance have applied these changes meanwhile. Entries loaded since then are valid.
            return;
        }
        let Some(rows) = rows else {
            return self.clear_at(to);
        };
        rows.iter().for_each(|row| self.remove(row));
        self.applied.store(to.number(), Ordering::SeqCst);
    }
}
