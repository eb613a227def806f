//! Whether the database is there, which of its servers is the one to use, and which revision it has.
//!
//! One probe a process finds out all three, through a connection of its own: a full pool is no dead database.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::{ActiveValue::Set, DatabaseConnection, EntityTrait, TransactionTrait};
use tokio::{sync::watch, time::timeout};
use tracing::{instrument::WithSubscriber, subscriber::NoSubscriber};

use super::{
    Db, change,
    engine::{self, Use, sqlite},
    location::Location,
    outage::Outage,
};
use crate::{
    domain::{RequestId, Timestamp},
    entity::request,
    error::{Error, Result},
};

/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_millis(1300);
/// How long writing may take when it is looked whether that is possible.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
/// How often it is looked whether a server that comes before the present one can be used again.
const RETURN_INTERVAL: Duration = Duration::from_secs(5);

/// What is known of the database, by all that use it.
#[derive(Debug)]
pub(super) struct Health {
    pub(super) location: Location,
    /// Which of the servers is used.
    server: AtomicUsize,
    pub(super) outage: Arc<Outage>,
    /// Whether the last probe got through.
    reachable: watch::Sender<bool>,
    /// Whether something has failed for want of the database since the last probe.
    fault: watch::Sender<bool>,
    /// How many calls the database has served: as long as it does, a probe that is late says nothing.
    served: AtomicU64,
    returned: watch::Sender<Instant>,
    /// Whether the server is one of a cluster that has the same data everywhere.
    clustered: AtomicBool,
    /// When the last look began that got through: what had been committed by then is known.
    looked: watch::Sender<Instant>,
}

impl Health {
    pub(super) fn new(location: Location, server: usize, outage: Arc<Outage>) -> Self {
        Self {
            location,
            server: AtomicUsize::new(server),
            outage,
            reachable: watch::Sender::new(true),
            fault: watch::Sender::new(false),
            served: AtomicU64::new(0),
            returned: watch::Sender::new(Instant::now()),
            clustered: AtomicBool::new(false),
            looked: watch::Sender::new(Instant::now()),
        }
    }

    /// Whether all that had been committed at this time, on whatever server, is known by now.
    pub(super) fn knows_all_of(&self, time: Instant) -> bool {
        *self.looked.borrow() >= time
    }

    /// Which of the servers is used.
    pub(super) fn server(&self) -> usize {
        self.server.load(Ordering::Relaxed)
    }

    /// Complains at once while the database is away: waiting for connections would only pile calls up.
    pub(super) fn check(&self) -> Result<()> {
        if *self.reachable.borrow() {
            Ok(())
        } else {
            Err(Error::Unavailable(
                "the last probe didn't get through".into(),
            ))
        }
    }

    /// Does something that may wait for the database, but not longer than it is there, on the same server. A
    /// file doesn't go away: what is begun there is never cut off.
    pub(super) async fn while_there<T>(&self, work: impl Future<Output = Result<T>>) -> Result<T> {
        if let Location::Sqlite(_) = self.location {
            return work.await;
        }
        self.check()?;
        let mut reachable = self.reachable.subscribe();
        let mut ended = self.outage.ended.subscribe();
        tokio::select! {
            biased;
            result = work => result,
            _ = reachable.wait_for(|reachable| !*reachable) => {
                Err(Error::Unavailable("it went away meanwhile".into()))
            }
            _ = ended.changed() => {
                Err(Error::Unavailable("another server is used meanwhile".into()))
            }
        }
    }

    /// Has the database looked at if this is an error that may come from its being away.
    pub(super) fn note<T>(&self, result: &Result<T>) {
        match result {
            Err(Error::Unavailable(_) | Error::Uncertain(_)) => drop(self.fault.send_replace(true)),
            Err(Error::Overloaded(_)) => {}
            _ => drop(self.served.fetch_add(1, Ordering::Relaxed)),
        }
    }

    fn tell(&self, reachable: bool) {
        if !reachable {
            self.outage.begin();
        }
        let before = self.reachable.send_replace(reachable);
        if reachable && !before {
            self.outage.end();
        }
    }
}

impl Db {
    /// Waits until something has failed for want of the database.
    pub async fn faulted(&self) {
        // The sender lives in `self`, so the channel can't be closed.
        let _ = self.health.fault.subscribe().wait_for(|fault| *fault).await;
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
            return false;
        };
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
        if self.is_there(&self.prober, true).await {
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
            if there {
                return Some(server);
            }
        }
    }

    fn use_server(&self, server: usize) {
        let health = &self.health;
        if health.server.swap(server, Ordering::Relaxed) != server {
            tracing::warn!(server, database = %health.location, "another server of the database is used from now on");
        }
        for db in [&self.writer, &self.reader, &self.prober] {
            engine::redirect(db, &health.location, server);
        }
        health.outage.end();
    }

    /// Whether a server is one to use; with `lacking`, even if it hasn't all the revisions that are known.
    async fn is_there(&self, prober: &DatabaseConnection, lacking: bool) -> bool {
        let begun = Instant::now();
        let known = self.revision();
        let served = self.health.served.load(Ordering::Relaxed);
        let probe = async {
            if let Location::Sqlite(_) = self.health.location {
                sqlite::probe_read(prober).await?;
            } else {
                let found = engine::look(prober).await?;
                if let Some(reason) = found.not_now {
                    return Err(Error::Unavailable(reason.into()));
                }
                self.health
                    .clustered
                    .store(found.clustered, Ordering::Relaxed);
            }
            Ok::<_, Error>(change::directory(prober).await?.revision)
        };
        // A probe is nobody's call: it leaves no spans.
        let probe = probe.with_subscriber(NoSubscriber::default());
        match timeout(PROBE_TIMEOUT, probe).await {
            Ok(Ok(revision)) if revision < known && !lacking => false,
            Ok(Ok(revision)) if revision < known => {
                // What was known had been committed before we looked.
                tracing::error!(
                    lost.after = revision.number(),
                    lost.up_to = known.number(),
                    "the database has lost revisions: it was restored, or another server took over without them"
                );
                self.revision.send_replace(revision);
                self.losses.send_modify(|losses| *losses += 1);
                self.health.looked.send_replace(begun);
                true
            }
            Ok(Ok(revision)) => {
                self.reach(revision);
                self.health.looked.send_replace(begun);
                true
            }
            // A machine with much to do is late with everything.
            Err(_) | Ok(Err(Error::Overloaded(_))) => {
                self.health.served.load(Ordering::Relaxed) > served
            }
            Ok(Err(error)) => {
                tracing::debug!(error = ?error, "a server of the database is not to be used");
                false
            }
        }
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
            created_at: Set(Timestamp::now()),
        };
        request::Entity::insert(row)
            .exec_without_returning(&tx)
            .await?;
        request::Entity::delete_by_id(id).exec(&tx).await?;
        Ok(tx.commit().await?)
    }
}
