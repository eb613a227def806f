//! The probe, one per process: finds out whether the database is reachable, which of its servers to use, and which
//! revision it has. It has a connection of its own: an exhausted pool must not look like an unreachable database.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use sea_orm::{ActiveValue::Set, DatabaseConnection, EntityTrait, TransactionTrait};
use tokio::time::timeout;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{
    Db, change,
    engine::{self, ConnectionPurpose, sqlite},
    health::PROBE_TIMEOUT,
    location::Location,
};
use crate::{
    domain::RequestId,
    entity::request,
    error::{Error, Result},
};

/// Timeout of a write probe.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// Minimum interval between probes while calls wait for a revision.
const WAITER_POLL_INTERVAL: Duration = Duration::from_millis(25);
/// How often a preferred server (one earlier in the list) is probed for failback.
const FAILBACK_INTERVAL: Duration = Duration::from_secs(5);

impl Db {
    /// Waits until a call has failed in a way that suggests the database is unreachable.
    pub async fn wait_for_fault(&self) {
        // The sender lives in `self`, so the channel can't be closed.
        let _ = self.health.fault.subscribe().wait_for(|fault| *fault).await;
    }

    /// Waits until a call waits for a revision and the last observation is at least `WAITER_POLL_INTERVAL` ago: one
    /// probe serves all waiting calls.
    pub async fn wait_for_revision_waiter(&self) {
        self.revisions.wait_for_waiter().await;
        if let Some(last) = self.revisions.last_observed_at() {
            tokio::time::sleep_until((last + WAITER_POLL_INTERVAL).into()).await;
        }
    }

    /// Whether the database can be read. Also observes its revision, and fails over if necessary.
    pub async fn is_readable(&self) -> bool {
        let found = self.select_server().await;
        self.health.record_probe(found);
        found
    }

    /// Whether the database can be written, determined by a write.
    pub async fn is_writable(&self) -> bool {
        self.health.fault.send_replace(false);
        let probe = self
            .attempt_write()
            .with_subscriber(NoSubscriber::default());
        let Ok(probe) = timeout(WRITE_TIMEOUT, probe).await else {
            tracing::debug!("it can't be found out in time whether the database can be written");
            return false;
        };
        if let Err(error) = &probe {
            tracing::debug!(error = ?error, "writing to the database fails");
        }
        // Overload and conflicts don't mean that the database can't be written.
        let fails = matches!(
            probe,
            Err(Error::Unavailable(_) | Error::CommitUnknown(_) | Error::Internal(_))
        );
        !fails && !*self.health.fault.borrow()
    }

    /// Selects the server to use: the current one while it is usable, otherwise the first usable one. Returns whether
    /// there is one.
    async fn select_server(&self) -> bool {
        let health = &self.health;
        let servers = health.location.servers();
        let present = health.server();
        let served = health.served.load(Ordering::Relaxed);
        let usable = self.is_usable(&self.prober, true).await;
        // A probe may be late only because this machine is busy: it doesn't count as failed while calls are served.
        if usable.unwrap_or_else(|| health.served.load(Ordering::Relaxed) > served) {
            // Failback is for clusters only: elsewhere, a server that returns may lack what others have committed
            // since.
            let stays = present == 0 || !health.clustered.load(Ordering::Relaxed);
            if stays || health.failback_checked.borrow().elapsed() < FAILBACK_INTERVAL {
                return true;
            }
            health.failback_checked.send_replace(Instant::now());
            // Fail back to the first usable server, so that all instances end up on the same one: writes on different
            // nodes conflict.
            if let Some(first) = self.first_usable(0..present, false).await {
                self.switch_server(first);
            }
            return true;
        }
        if servers == 1 {
            return false;
        }
        // Use a server that lacks acknowledged revisions only if there is no other.
        let mut first = self.first_usable(0..servers, false).await;
        if first.is_none() {
            first = self.first_usable(0..servers, true).await;
        }
        if let Some(first) = first {
            self.switch_server(first);
        }
        first.is_some()
    }

    async fn first_usable(
        &self,
        mut servers: std::ops::Range<usize>,
        allow_data_loss: bool,
    ) -> Option<usize> {
        let health = &self.health;
        loop {
            let server = servers.next()?;
            let prober = engine::connect(
                &health.location,
                server,
                ConnectionPurpose::Probe,
                1,
                &health.outage,
            );
            let usable = self.is_usable(&prober, allow_data_loss).await;
            let _ = timeout(PROBE_TIMEOUT, prober.close()).await;
            if usable == Some(true) {
                return Some(server);
            }
        }
    }

    fn switch_server(&self, server: usize) {
        let health = &self.health;
        if health.server.swap(server, Ordering::Relaxed) != server {
            tracing::warn!(server, database = %health.location, "another server of the database is used from now on");
        }
        health.failback_checked.send_replace(Instant::now());
        for db in [&self.writer, &self.sync_pool, &self.prober] {
            engine::redirect(db, &health.location, server);
        }
        self.reader.redirect(&health.location, server);
        health.outage.end();
    }

    /// Whether a server is usable; with `allow_data_loss`, even if it lacks revisions that are known to be committed.
    /// `None` if it doesn't answer in time.
    async fn is_usable(&self, prober: &DatabaseConnection, allow_data_loss: bool) -> Option<bool> {
        if let Err(error) = self.health.check_file() {
            tracing::debug!(error = ?error, "the database is not to be used");
            return Some(false);
        }
        let begun = Instant::now();
        let known = self.revision();
        let probe = async {
            if let Location::Sqlite(_) = self.health.location {
                sqlite::probe_read(prober).await?;
                self.clock.follow_system_clock();
            } else {
                let asked = Instant::now();
                let found = engine::inspect(prober).await?;
                let answered = Instant::now();
                if let Some(reason) = found.not_writable {
                    return Err(Error::Unavailable(reason.into()));
                }
                if let Some(time) = found.time {
                    self.clock.synchronize([asked, answered], time);
                }
                self.health
                    .clustered
                    .store(found.clustered, Ordering::Relaxed);
            }
            Ok::<_, Error>(change::read_directory(prober).await?.revision)
        };
        // A probe belongs to no call, so its statements record no spans.
        let probe = probe.with_subscriber(NoSubscriber::default());
        let probe_timeout = *self.health.next_probe_timeout.borrow();
        let usable = match timeout(probe_timeout, probe).await {
            Ok(Ok(revision)) if revision < known && !allow_data_loss => false,
            Ok(Ok(revision)) if revision < known => {
                // `known` was committed before this probe began, so a lower revision means data loss.
                tracing::error!(
                    lost.after = revision.number(),
                    lost.up_to = known.number(),
                    "the database has lost revisions: it was restored, or another server took over without them"
                );
                self.cache.reset(revision);
                self.revisions.record_loss(begun, revision);
                self.data_losses
                    .send_modify(|data_losses| *data_losses += 1);
                true
            }
            Ok(Ok(revision)) => {
                self.revisions.record_observation(begun, revision);
                true
            }
            Err(_) | Ok(Err(Error::Overloaded(_))) => {
                tracing::debug!(
                    "a server of the database doesn't say in time whether it is to be used"
                );
                return None;
            }
            Ok(Err(error)) => {
                tracing::debug!(error = ?error, "a server of the database is not to be used");
                false
            }
        };
        Some(usable)
    }

    async fn attempt_write(&self) -> Result<()> {
        if let Location::Sqlite(_) = self.health.location {
            return Ok(sqlite::probe_write(&self.writer).await?);
        }
        let tx = self.writer.begin().await?;
        // A complete write that leaves nothing behind: it inserts a stored response under a new request id, and deletes
        // it.
        let id = RequestId::generate();
        let row = request::ActiveModel {
            id: Set(id),
            fingerprint: Set(vec![0; 32]),
            response: Set(Vec::new()),
            created_at: Set(self.now()),
        };
        request::Entity::insert(row)
            .exec_without_returning(&tx)
            .await?;
        request::Entity::delete_by_id(id).exec(&tx).await?;
        Ok(tx.commit().await?)
    }
}
