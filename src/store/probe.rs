//! The probe: one a process finds out whether the database is there, which of its servers is the one to use, and
//! which revision it has. It goes through a connection of its own: a full pool is no dead database.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use sea_orm::{ActiveValue::Set, DatabaseConnection, EntityTrait, TransactionTrait};
use tokio::time::timeout;
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{
    Db, change,
    engine::{self, Use, sqlite},
    health::PROBE_TIMEOUT,
    location::Location,
};
use crate::{
    domain::RequestId,
    entity::request,
    error::{Error, Result},
};

/// How long writing may take when it is looked whether that is possible.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// How often the database is asked for its revision while calls wait for one.
const AWAITED_INTERVAL: Duration = Duration::from_millis(25);
/// How often it is looked whether a server that comes before the present one can be used again.
const RETURN_INTERVAL: Duration = Duration::from_secs(5);

impl Db {
    /// Waits until something has failed for want of the database.
    pub async fn faulted(&self) {
        // The sender lives in `self`, so the channel can't be closed.
        let _ = self.health.fault.subscribe().wait_for(|fault| *fault).await;
    }

    /// Waits until a call waits for a revision that isn't known to be committed, and the last look at the database is
    /// a moment ago: one look serves all that wait.
    pub async fn revision_awaited(&self) {
        self.revisions.awaited().await;
        if let Some(last) = self.revisions.last_look() {
            tokio::time::sleep_until((last + AWAITED_INTERVAL).into()).await;
        }
    }

    /// Whether the database can be read; on the way it gets known which revision it has.
    pub async fn is_readable(&self) -> bool {
        let found = self.find().await;
        self.health.tell(found);
        found
    }

    /// Whether the database can be written, found out by writing to it.
    pub async fn is_writable(&self) -> bool {
        self.health.fault.send_replace(false);
        let probe = self
            .write_nothing()
            .with_subscriber(NoSubscriber::default());
        let Ok(probe) = timeout(WRITE_TIMEOUT, probe).await else {
            tracing::debug!("it can't be found out in time whether the database can be written");
            return false;
        };
        if let Err(error) = &probe {
            tracing::debug!(error = ?error, "writing to the database fails");
        }
        // Many who wait for it say nothing against it.
        let fails = matches!(
            probe,
            Err(Error::Unavailable(_) | Error::Uncertain(_) | Error::Internal(_))
        );
        !fails && !*self.health.fault.borrow()
    }

    /// Finds the server to use: the first that can be written.
    async fn find(&self) -> bool {
        let health = &self.health;
        let servers = health.location.servers();
        let present = health.server();
        let served = health.served.load(Ordering::Relaxed);
        let there = self.is_there(&self.prober, true).await;
        // A machine with much to do is late with everything: as long as calls are served, that says nothing.
        if there.unwrap_or_else(|| health.served.load(Ordering::Relaxed) > served) {
            // Elsewhere than in a cluster, a server that comes back may lack what others have taken since.
            let stays = present == 0 || !health.clustered.load(Ordering::Relaxed);
            if stays || health.returned.borrow().elapsed() < RETURN_INTERVAL {
                return true;
            }
            health.returned.send_replace(Instant::now());
            // All instances use the same server in the end: those who write on two get in each other's way.
            if let Some(first) = self.first_there(0..present, false).await {
                self.use_server(first);
            }
            return true;
        }
        if servers == 1 {
            return false;
        }
        // One that lacks what was acknowledged only if there is no other.
        let mut first = self.first_there(0..servers, false).await;
        if first.is_none() {
            first = self.first_there(0..servers, true).await;
        }
        if let Some(first) = first {
            self.use_server(first);
        }
        first.is_some()
    }

    async fn first_there(
        &self,
        mut servers: std::ops::Range<usize>,
        lacking: bool,
    ) -> Option<usize> {
        let health = &self.health;
        loop {
            let server = servers.next()?;
            let prober = engine::connect(&health.location, server, Use::Look, 1, &health.outage);
            let there = self.is_there(&prober, lacking).await;
            let _ = timeout(PROBE_TIMEOUT, prober.close()).await;
            if there == Some(true) {
                return Some(server);
            }
        }
    }

    fn use_server(&self, server: usize) {
        let health = &self.health;
        if health.server.swap(server, Ordering::Relaxed) != server {
            tracing::warn!(server, database = %health.location, "another server of the database is used from now on");
        }
        health.returned.send_replace(Instant::now());
        for db in [&self.writer, &self.follower, &self.prober] {
            engine::redirect(db, &health.location, server);
        }
        self.reader.redirect(&health.location, server);
        health.outage.end();
    }

    /// Whether a server is one to use; with `lacking`, even if it hasn't all the revisions that are known. None
    /// if it doesn't say so in time.
    async fn is_there(&self, prober: &DatabaseConnection, lacking: bool) -> Option<bool> {
        if let Err(error) = self.health.check_file() {
            tracing::debug!(error = ?error, "the database is not to be used");
            return Some(false);
        }
        let begun = Instant::now();
        let known = self.revision();
        let probe = async {
            if let Location::Sqlite(_) = self.health.location {
                sqlite::probe_read(prober).await?;
                self.clock.follow();
            } else {
                let asked = Instant::now();
                let found = engine::look(prober).await?;
                let answered = Instant::now();
                if let Some(reason) = found.not_now {
                    return Err(Error::Unavailable(reason.into()));
                }
                if let Some(time) = found.time {
                    self.clock.learn([asked, answered], time);
                }
                self.health
                    .clustered
                    .store(found.clustered, Ordering::Relaxed);
            }
            Ok::<_, Error>(change::directory(prober).await?.revision)
        };
        // A probe is nobody's call: it leaves no spans.
        let probe = probe.with_subscriber(NoSubscriber::default());
        let patience = *self.health.patience.borrow();
        let there = match timeout(patience, probe).await {
            Ok(Ok(revision)) if revision < known && !lacking => false,
            Ok(Ok(revision)) if revision < known => {
                // What was known had been committed before we looked.
                tracing::error!(
                    lost.after = revision.number(),
                    lost.up_to = known.number(),
                    "the database has lost revisions: it was restored, or another server took over without them"
                );
                self.cache.reset(revision);
                self.revisions.lost_after(begun, revision);
                self.losses.send_modify(|losses| *losses += 1);
                true
            }
            Ok(Ok(revision)) => {
                self.revisions.looked(begun, revision);
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
        Some(there)
    }

    async fn write_nothing(&self) -> Result<()> {
        if let Location::Sqlite(_) = self.health.location {
            return Ok(sqlite::probe_write(&self.writer).await?);
        }
        let tx = self.writer.begin().await?;
        // All of a write, but for its trace: an answer to a request that nobody sent.
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
