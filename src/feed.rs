//! The change feed: serves watchers, each at its own pace, from the table of changes.
//!
//! Watchers that keep up read the same few changes at the same time, so they share the tail of the table in memory; the
//! first watcher that needs more extends it for all. A slow watcher falls behind the tail and reads the table itself;
//! nothing waits for it, and nothing is buffered for it.

mod tail;
mod watchers;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, Semaphore, mpsc, watch},
    time::{Instant, sleep_until},
};

use self::{
    tail::Tail,
    watchers::{Watcher, Watchers},
};
use crate::{
    domain::{ChangeFilter, HistoryId, RecordedChange, Revision, WatchChanges},
    error::{Error, Result},
    store::{
        CallerShares, Db,
        change::{self, ChangeSlice},
    },
};

/// Interval of heartbeats with the current revision while there are no changes: the API promises one every 15 seconds.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Minimum interval between batches to a watcher: under load, changes are batched.
const MIN_BATCH_INTERVAL: Duration = Duration::from_millis(100);
/// Maximum number of changes in a batch: at 12 KB each at most, a batch stays within the 3 MiB limit of a response.
const MAX_BATCH_CHANGES: usize = 250;
/// Maximum number of changes in the tail, and read at once to extend it.
const MAX_TAIL_CHANGES: usize = 4000;

/// Minimum interval between reads that extend the tail, whichever watcher needs them.
const TAIL_READ_INTERVAL: Duration = Duration::from_millis(50);
/// Number of watchers that may read the table at once.
const MAX_TABLE_READERS: usize = 2;
/// A tail that lags by more revisions than this is restarted at the current revision.
const MAX_TAIL_LAG: i64 = 1000;

/// A position in the feed: after the change with this revision and index. `i32::MAX` stands for the end of the
/// revision.
type Position = (Revision, i32);

/// The change feed of a directory.
#[derive(Clone, Debug)]
pub struct Feed {
    db: Db,
    stopping: watch::Receiver<bool>,
    tail: Arc<Mutex<Tail>>,
    capacity: Arc<Semaphore>,
    shares: CallerShares,
    /// Limit how many watchers may start at once, and how many may read the table: the other connections are for calls.
    /// Separate semaphores, so that watchers that catch up don't delay watchers that start.
    start_permits: Arc<Semaphore>,
    read_permits: Arc<Semaphore>,
    watchers: Watchers,
}

/// A batch of the feed.
#[derive(Debug)]
pub struct WatchBatch {
    /// The matching changes, in order; empty in a heartbeat.
    pub changes: Vec<Arc<RecordedChange>>,
    /// All matching changes up to and including this revision have been sent.
    pub complete: Revision,
    /// The directory's history.
    pub history: HistoryId,
}

impl Feed {
    /// The feed of `db` for at most `watchers` watchers at once; it ends when `stopping` becomes true.
    #[must_use]
    pub fn new(db: Db, stopping: watch::Receiver<bool>, watchers: u32) -> Self {
        let tail = Arc::new(Mutex::new(Tail::starting_after(
            (db.revision(), i32::MAX),
            0,
        )));
        Self {
            db,
            stopping,
            tail,
            capacity: Arc::new(Semaphore::new(watchers as usize)),
            shares: CallerShares::default(),
            start_permits: Arc::new(Semaphore::new(MAX_TABLE_READERS)),
            read_permits: Arc::new(Semaphore::new(MAX_TABLE_READERS)),
            watchers: Watchers::default(),
        }
    }

    /// Starts to watch. Changes are read only as fast as the receiver takes them; the feed ends with an error.
    ///
    /// # Errors
    /// `RevisionCompacted` or `RevisionUnknown` if the feed can't start at the requested revision; `Overloaded` if
    /// there are too many watchers; `Unavailable`.
    pub async fn watch(&self, watch: WatchChanges) -> Result<mpsc::Receiver<Result<WatchBatch>>> {
        let WatchChanges {
            from,
            history,
            filter,
        } = watch;
        let capacity = self.capacity.clone().try_acquire_owned().ok();
        let place = capacity.and_then(|capacity| {
            let free = self.capacity.available_permits() + 1;
            Some((self.shares.take(free)?, capacity))
        });
        let place = place.ok_or_else(|| {
            self.watchers.refuse();
            Error::Overloaded("too many follow the feed".into())
        })?;
        let (position, history) = {
            let _starting = self.start_permits.acquire().await;
            change::start_position(&self.db, from, history).await?
        };
        let (sender, batches) = mpsc::channel(1);
        let feed = self.clone();
        let watcher = self.watchers.join(position.0);
        let mut data_losses = self.db.data_losses();
        data_losses.mark_unchanged();
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                error = feed.send(&watcher, position, history, &filter, &sender) => {
                    // A receiver that is gone needs no reason.
                    let _ = sender.send(Err(error)).await;
                }
                _ = data_losses.changed() => {
                    // Batches that were already sent may hold lost revisions: the watcher must not resume from them.
                    let present = feed.db.revision();
                    let _ = sender.send(Err(Error::RevisionUnknown { present })).await;
                }
                () = sender.closed() => {}
            }
        });
        Ok(batches)
    }

    /// Sends batches as long as the receiver takes them; returns why the feed ends.
    async fn send(
        &self,
        watcher: &Watcher,
        mut position: Position,
        history: HistoryId,
        filter: &ChangeFilter,
        sender: &mpsc::Sender<Result<WatchBatch>>,
    ) -> Error {
        let mut last_sent = None;
        let mut last = false;
        let mut last_heartbeat = Instant::now();
        loop {
            let looked = Instant::now();
            let slice = match self.after(position, filter, last).await {
                Ok(slice) => slice,
                // Calls take precedence; the feed can wait.
                Err(Error::Overloaded(_)) => {
                    sleep_until(looked + MIN_BATCH_INTERVAL).await;
                    continue;
                }
                Err(error) => return error,
            };
            position = slice.position;
            let caught_up = slice.position.1 == i32::MAX;
            // Progress without matching changes is reported with the next heartbeat.
            let complete = slice.complete;
            let due = last_sent.is_none()
                || last_heartbeat.elapsed() >= HEARTBEAT
                || (last && last_sent != Some(slice.complete));
            if !slice.changes.is_empty() || due {
                last_sent = Some(slice.complete);
                last_heartbeat = Instant::now();
                let ChangeSlice {
                    changes, complete, ..
                } = slice;
                self.db.record_returned(complete);
                if sender
                    .send(Ok(WatchBatch {
                        changes,
                        complete,
                        history,
                    }))
                    .await
                    .is_err()
                {
                    return Error::ShuttingDown;
                }
            }
            watcher.advance(complete);
            if !caught_up {
                continue;
            }
            if last {
                return Error::ShuttingDown;
            }
            sleep_until(looked + MIN_BATCH_INTERVAL).await;
            last = self
                .wait_for_more(position.0, last_heartbeat + HEARTBEAT)
                .await;
        }
    }

    /// Waits for a revision after `behind`, or for the next heartbeat; true if the server stops and everything that
    /// will ever be committed has been.
    async fn wait_for_more(&self, behind: Revision, last_heartbeat: Instant) -> bool {
        let mut revisions = self.db.revisions();
        let mut stopping = self.stopping.clone();
        tokio::select! {
            () = wait_until(&mut revisions, |revision| *revision > behind) => false,
            () = sleep_until(last_heartbeat) => false,
            () = wait_until(&mut stopping, |stopping| *stopping) => {
                self.db.writes_drained().await;
                true
            }
        }
    }

    /// Reads matching changes after a position. With `last`, the tail is extended however recently it was read before.
    async fn after(
        &self,
        position: Position,
        filter: &ChangeFilter,
        last: bool,
    ) -> Result<ChangeSlice> {
        let mut tail = self.tail.lock().await;
        let present = self.db.revision();
        let data_losses = *self.db.data_losses().borrow();
        if tail.data_losses != data_losses || tail.end.0.number() + MAX_TAIL_LAG < present.number()
        {
            // After a data loss the tail may hold lost revisions. A tail that lags far has had no watchers for a while,
            // and current watchers may not need all of what it lacks.
            *tail = Tail::starting_after((present, i32::MAX), data_losses);
        } else if tail.end.0 < present && (last || tail.read.elapsed() >= TAIL_READ_INTERVAL) {
            tail.extend_from(&self.db).await?;
        }
        match tail.after(position, filter) {
            Some(slice) => Ok(slice),
            None => {
                drop(tail);
                let _reading = self.read_permits.acquire().await;
                change::read_after(&self.db, position, filter, MAX_BATCH_CHANGES).await
            }
        }
    }
}

/// Waits for a value without keeping the channel's lock. The sender lives as long as the server, so the channel can't
/// be closed.
async fn wait_until<T>(values: &mut watch::Receiver<T>, wanted: impl FnMut(&T) -> bool) {
    let _ = values.wait_for(wanted).await;
}
