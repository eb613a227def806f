//! The feed of changes: followers, each at its own pace, served from the table.
//!
//! Followers that keep up read the same few changes at the same time. They share a tail of the table in
//! memory, which whoever needs more of it first reads on for all. A follower that is slow falls behind the
//! tail, and reads the table itself; nothing waits for it, and nothing is kept for it.

mod followers;
mod tail;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, Semaphore, mpsc, watch},
    time::{Instant, sleep_until},
};

use self::{
    followers::{Follower, Followers},
    tail::Tail,
};
use crate::{
    domain::{ChangeFilter, HistoryId, Recorded, Revision, WatchChanges},
    error::{Error, Result},
    store::{
        Db, Shares,
        change::{self, Slice},
    },
};

/// Without changes, the present revision is told this often: the contract says every 15 seconds.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// A follower gets changes at most this often: under load they come together.
const PACE: Duration = Duration::from_millis(100);
/// How many changes a follower gets at once: at 12 KB at most, they stay within the 3 MiB of an answer.
const BATCH: usize = 250;
/// How many changes the tail holds, and how many it looks through at once for a follower.
const TAIL: usize = 4000;

/// The tail is read on at most this often, whoever asks for more of it.
const TAIL_PACE: Duration = Duration::from_millis(50);
/// How many followers read the table at once.
const READERS: usize = 2;
/// A tail that is this many revisions behind is begun anew.
const FAR: i64 = 1000;

/// A place in the feed: behind this change of this revision.
type Position = (Revision, i32);

/// The changes of a directory, for those who follow them.
#[derive(Clone, Debug)]
pub struct Feed {
    db: Db,
    stopping: watch::Receiver<bool>,
    tail: Arc<Mutex<Tail>>,
    room: Arc<Semaphore>,
    shares: Shares,
    /// How many followers may begin at once, and how many may read the table: what remains of the connections is for
    /// calls. Separate semaphores, so that watchers that catch up don't delay watchers that start.
    starters: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    followers: Followers,
}

/// Part of the feed.
#[derive(Debug)]
pub struct Batch {
    /// The changes that are wanted, in order; none in a heartbeat.
    pub changes: Vec<Arc<Recorded>>,
    /// Every wanted change up to and with this revision has been sent.
    pub complete: Revision,
    /// The directory's history.
    pub history: HistoryId,
}

impl Feed {
    /// The feed of `db`, until `stopping` is true, for so many followers at once.
    #[must_use]
    pub fn new(db: Db, stopping: watch::Receiver<bool>, followers: u32) -> Self {
        let tail = Arc::new(Mutex::new(Tail::behind((db.revision(), i32::MAX), 0)));
        Self {
            db,
            stopping,
            tail,
            room: Arc::new(Semaphore::new(followers as usize)),
            shares: Shares::default(),
            starters: Arc::new(Semaphore::new(READERS)),
            readers: Arc::new(Semaphore::new(READERS)),
            followers: Followers::default(),
        }
    }

    /// Begins to follow. Changes are read only as fast as they are taken; the feed ends with an error.
    ///
    /// # Errors
    /// The revision to begin at is no longer kept, or was never given; or the database is unavailable.
    pub async fn follow(&self, watch: WatchChanges) -> Result<mpsc::Receiver<Result<Batch>>> {
        let WatchChanges {
            from,
            history,
            filter,
        } = watch;
        let room = self.room.clone().try_acquire_owned().ok();
        let place = room.and_then(|room| {
            let free = self.room.available_permits() + 1;
            Some((self.shares.take(free)?, room))
        });
        let place = place.ok_or_else(|| {
            self.followers.refuse();
            Error::Overloaded("too many follow the feed".into())
        })?;
        let (position, history) = {
            let _starting = self.starters.acquire().await;
            change::start(&self.db, from, history).await?
        };
        let (sender, batches) = mpsc::channel(1);
        let feed = self.clone();
        let follower = self.followers.join(position.0);
        let mut losses = self.db.losses();
        losses.mark_unchanged();
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                error = feed.send(&follower, position, history, &filter, &sender) => {
                    // Whoever has gone away needs no reason.
                    let _ = sender.send(Err(error)).await;
                }
                _ = losses.changed() => {
                    // What was told is no longer true: it must not be gone on from.
                    let present = feed.db.revision();
                    let _ = sender.send(Err(Error::RevisionUnknown { present })).await;
                }
                () = sender.closed() => {}
            }
        });
        Ok(batches)
    }

    /// Sends changes for as long as they are taken, and says why no more can come.
    async fn send(
        &self,
        follower: &Follower,
        mut position: Position,
        history: HistoryId,
        filter: &ChangeFilter,
        sender: &mpsc::Sender<Result<Batch>>,
    ) -> Error {
        let mut told = None;
        let mut last = false;
        let mut beat = Instant::now();
        loop {
            let looked = Instant::now();
            let slice = match self.after(position, filter, last).await {
                Ok(slice) => slice,
                // Calls go first; changes can wait.
                Err(Error::Overloaded(_)) => {
                    sleep_until(looked + PACE).await;
                    continue;
                }
                Err(error) => return error,
            };
            position = slice.position;
            let caught_up = slice.position.1 == i32::MAX;
            // What was looked through without a find is told of at the next heartbeat.
            let complete = slice.complete;
            let due = told.is_none()
                || beat.elapsed() >= HEARTBEAT
                || (last && told != Some(slice.complete));
            if !slice.changes.is_empty() || due {
                told = Some(slice.complete);
                beat = Instant::now();
                let Slice {
                    changes, complete, ..
                } = slice;
                self.db.answered(complete);
                if sender
                    .send(Ok(Batch {
                        changes,
                        complete,
                        history,
                    }))
                    .await
                    .is_err()
                {
                    return Error::Stopping;
                }
            }
            follower.reach(complete);
            if !caught_up {
                continue;
            }
            if last {
                return Error::Stopping;
            }
            sleep_until(looked + PACE).await;
            last = self.more(position.0, beat + HEARTBEAT).await;
        }
    }

    /// Waits for a revision behind this one, or for the time of a heartbeat; true if the server stops, and
    /// everything that is ever going to be committed has been.
    async fn more(&self, behind: Revision, beat: Instant) -> bool {
        let mut revisions = self.db.revisions();
        let mut stopping = self.stopping.clone();
        tokio::select! {
            () = until(&mut revisions, |revision| *revision > behind) => false,
            () = sleep_until(beat) => false,
            () = until(&mut stopping, |stopping| *stopping) => {
                self.db.settled().await;
                true
            }
        }
    }

    /// The changes behind a place. The last look is at all there is, however recent the look before it.
    async fn after(&self, position: Position, filter: &ChangeFilter, last: bool) -> Result<Slice> {
        let mut tail = self.tail.lock().await;
        let present = self.db.revision();
        let losses = *self.db.losses().borrow();
        if tail.losses != losses || tail.end.0.number() + FAR < present.number() {
            // What was lost is not what stands there now; or nobody has followed for a while: not all of
            // that is wanted by those who do now.
            *tail = Tail::behind((present, i32::MAX), losses);
        } else if tail.end.0 < present && (last || tail.read.elapsed() >= TAIL_PACE) {
            tail.read_on(&self.db).await?;
        }
        match tail.after(position, filter) {
            Some(slice) => Ok(slice),
            None => {
                drop(tail);
                let _reading = self.readers.acquire().await;
                change::after(&self.db, position, filter, BATCH).await
            }
        }
    }
}

/// Waits for a value; keeps none of the channel's locks. Who sends it lives as long as the server.
async fn until<T>(values: &mut watch::Receiver<T>, wanted: impl FnMut(&T) -> bool) {
    let _ = values.wait_for(wanted).await;
}
