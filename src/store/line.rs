//! Waiting in line: for how long, and how many may. Whoever would wait too long is told so at once.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::share::{Share, Shares};
use crate::error::{Error, Result};

/// A rush is over by then; where somebody has waited at any moment for as long, more comes in than can be carried out
/// (Nichols and Jacobson, *Controlling Queue Delay*, 2012: a standing queue does no good).
const RUSH: Duration = Duration::from_millis(100);
/// How long the first in line may have waited in a rush.
const RUSH_PATIENCE: Duration = Duration::from_secs(1);
/// So many may wait, however long it takes: callers who ask for one thing after the other are no overload. Unless it is a
/// crowd: as long as more come than can be carried out, those who aren't refused shouldn't wait for so many.
const FEW: usize = 128;
/// How much a call that leaves counts for how fast the line moves: as many as this make it up, five transactions that
/// writes share.
const MEMORY: u32 = 256;
/// How long anybody waits at most.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long, and how many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// How long one may have to wait while others wait all the time.
    pub(super) time: Duration,
    /// How many may wait.
    pub(super) many: u32,
}

/// Those who wait, in their order.
#[derive(Debug)]
pub(super) struct Line {
    limits: Limits,
    /// How many leave together in a crowd.
    together: usize,
    waiting: Mutex<Waiting>,
    shares: Shares,
    refused: AtomicU64,
}

#[derive(Debug)]
struct Waiting {
    /// Numbers, and since when each waits.
    places: VecDeque<(u64, Instant)>,
    joined: u64,
    /// Since when somebody has waited at any moment. What is refused keeps others out until the line is empty: that
    /// doesn't end it.
    since: Instant,
    refused: Option<Instant>,
    /// When the last one left from the front, and the time from one to the next on average while others wait.
    left: Instant,
    pace: Duration,
}

impl Waiting {
    /// Whether it is a crowd: somebody was refused a moment ago.
    fn is_crowded(&self, now: Instant) -> bool {
        self.refused
            .is_some_and(|at| now.duration_since(at) <= RUSH)
    }

    /// How long one waits who comes now: the first has waited for so long already, and all before it have to leave
    /// (Little's law).
    fn wait(&self, first: Instant, now: Instant) -> Duration {
        let many = u32::try_from(self.places.len()).unwrap_or(u32::MAX);
        let to_come = self.pace.saturating_mul(many);
        to_come.max(now.duration_since(first))
    }

    /// Notes that the first leaves, who joined at this time.
    fn leave(&mut self, joined: Instant) {
        let now = Instant::now();
        let took = now.duration_since(self.left.max(joined)).min(RUSH);
        self.pace = (self.pace * (MEMORY - 1) + took) / MEMORY;
        self.left = now;
    }
}

/// A place in line, given up when dropped.
#[derive(Debug)]
pub(super) struct Place {
    line: Arc<Line>,
    number: u64,
    _share: Share,
}

impl Line {
    /// One that so many leave together in a crowd. Whoever is among the next of them needn't wait for others: that is no
    /// standing queue, however long it takes until they leave.
    pub(super) fn new(limits: Limits, together: usize) -> Arc<Self> {
        Arc::new(Self {
            limits,
            together,
            waiting: Mutex::new(Waiting {
                places: VecDeque::new(),
                joined: 0,
                since: Instant::now(),
                refused: None,
                left: Instant::now(),
                pace: Duration::ZERO,
            }),
            shares: Shares::default(),
            refused: AtomicU64::new(0),
        })
    }

    /// Waits from now on.
    ///
    /// # Errors
    /// The line is too long, or too many places in it are this caller's.
    pub(super) fn join(self: &Arc<Self>) -> Result<Place> {
        let now = Instant::now();
        let mut waiting = self.waiting();
        match waiting.places.front() {
            None => {
                if !waiting.is_crowded(now) {
                    waiting.since = now;
                }
            }
            Some((_, first)) => {
                let rush = now.duration_since(waiting.since) < RUSH;
                let patience = if rush {
                    RUSH_PATIENCE
                } else {
                    self.limits.time
                };
                let length = waiting.places.len();
                let few = if waiting.is_crowded(now) {
                    self.together
                } else {
                    FEW
                };
                let many = length >= self.limits.many as usize;
                let long = length >= few && waiting.wait(*first, now) > patience;
                if many || long {
                    waiting.refused = Some(now);
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(Error::Overloaded("the line is too long".into()));
                }
            }
        }
        let free = (self.limits.many as usize).saturating_sub(waiting.places.len());
        let Some(share) = self.shares.take(free) else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Error::Overloaded("the caller waits too often".into()));
        };
        waiting.joined += 1;
        let number = waiting.joined;
        waiting.places.push_back((number, now));
        Ok(Place {
            line: self.clone(),
            number,
            _share: share,
        })
    }

    /// Whether somebody was refused a moment ago.
    pub(super) fn is_crowded(&self) -> bool {
        self.waiting().is_crowded(Instant::now())
    }

    /// How many wait, and how many have been refused so far.
    pub(super) fn counts(&self) -> (usize, u64) {
        let waiting = self.waiting().places.len();
        (waiting, self.refused.load(Ordering::Relaxed))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut waiting = self.line.waiting();
        // Most leave from the front; numbers rise.
        let found = waiting
            .places
            .binary_search_by_key(&self.number, |(number, _)| *number);
        if let Ok(index) = found {
            let place = waiting.places.remove(index);
            if let Some((_, joined)) = place.filter(|_| index == 0) {
                waiting.leave(joined);
            }
        }
    }
}

/// A way in for so many at once, with a line before it.
#[derive(Debug)]
pub(super) struct Gate {
    room: Arc<Semaphore>,
    size: usize,
    line: Arc<Line>,
}

impl Gate {
    /// Lets `room` in at once.
    pub(super) fn new(room: u32, limits: Limits) -> Self {
        Self {
            room: Arc::new(Semaphore::new(room as usize)),
            size: room as usize,
            line: Line::new(limits, 1),
        }
    }

    /// Waits until there is room, which is taken until what is returned is dropped.
    ///
    /// # Errors
    /// Too many wait.
    pub(super) async fn enter(&self) -> Result<OwnedSemaphorePermit> {
        if let Ok(room) = self.room.clone().try_acquire_owned() {
            return Ok(room);
        }
        let _place = self.line.join()?;
        let room = timeout(PATIENCE, self.room.clone().acquire_owned()).await;
        match room {
            Ok(Ok(room)) => Ok(room),
            _ => Err(Error::Overloaded("there was no room in time".into())),
        }
    }

    /// Whether one was let in who hasn't left.
    pub(super) fn is_in_use(&self) -> bool {
        self.room.available_permits() < self.size
    }

    /// How many wait, and how many have been refused so far.
    pub(super) fn counts(&self) -> (usize, u64) {
        self.line.counts()
    }
}
