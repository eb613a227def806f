//! Admission queues: limits on how long requests wait and how many. A request whose expected wait is too long is
//! rejected at once.

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

use super::caller_share::{CallerShare, CallerShares};
use crate::error::{Error, Result};

/// A queue that is non-empty for less than this is a burst; beyond it, more requests arrive than can be executed
/// (Nichols and Jacobson, *Controlling Queue Delay*, 2012: a standing queue adds only delay). The queue counts as
/// overloaded for as long after a rejection.
const BURST_WINDOW: Duration = Duration::from_millis(100);
/// Maximum expected wait during a burst.
const BURST_MAX_WAIT: Duration = Duration::from_secs(1);
/// This many requests may wait whatever their expected wait: callers that send one request after the other are no
/// overload. While overloaded, `batch_size` applies instead, so that admitted requests don't wait behind so many.
const MIN_QUEUE_LENGTH: usize = 128;
/// Window of the moving average of the service interval, in departures: about five full write batches.
const PACE_SAMPLES: u32 = 256;
/// Maximum wait for a permit.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Limits of a queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueLimits {
    /// Maximum expected wait while the queue is never empty.
    pub(super) max_wait: Duration,
    /// Maximum number of waiting requests.
    pub(super) max_waiting: u32,
}

/// A first-in, first-out queue of waiting requests.
#[derive(Debug)]
pub(super) struct AdmissionQueue {
    limits: QueueLimits,
    /// Number of requests that leave the queue together while it is overloaded.
    batch_size: usize,
    waiting: Mutex<QueueState>,
    shares: CallerShares,
    refused: AtomicU64,
}

#[derive(Debug)]
struct QueueState {
    /// Each waiting request's number and arrival time, in order.
    tickets: VecDeque<(u64, Instant)>,
    joined: u64,
    /// Since when the queue has been non-empty without interruption. Becoming empty soon after a rejection doesn't
    /// reset it: then the rejections have emptied the queue, not a lower load.
    busy_since: Instant,
    last_refusal: Option<Instant>,
    /// When a request last left from the front, and the moving average of the time between departures while others
    /// wait.
    last_departure: Instant,
    service_interval: Duration,
}

impl QueueState {
    /// Whether the queue rejected a request within the last [`BURST_WINDOW`]. Rejections because of a caller's share
    /// don't count.
    fn is_overloaded(&self, now: Instant) -> bool {
        self.last_refusal
            .is_some_and(|at| now.duration_since(at) <= BURST_WINDOW)
    }

    /// Expected wait of a new request: at least as long as the first one has waited already, and until all before it
    /// have left (Little's law).
    fn expected_wait(&self, first: Instant, now: Instant) -> Duration {
        let many = u32::try_from(self.tickets.len()).unwrap_or(u32::MAX);
        let to_come = self.service_interval.saturating_mul(many);
        to_come.max(now.duration_since(first))
    }

    /// Records that the first request, which joined at this time, leaves the queue.
    fn record_departure(&mut self, joined: Instant) {
        let now = Instant::now();
        let took = now
            .duration_since(self.last_departure.max(joined))
            .min(BURST_WINDOW);
        self.service_interval = (self.service_interval * (PACE_SAMPLES - 1) + took) / PACE_SAMPLES;
        self.last_departure = now;
    }
}

/// A place in the queue, released when dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    line: Arc<AdmissionQueue>,
    number: u64,
    _share: CallerShare,
}

impl AdmissionQueue {
    /// A queue that `batch_size` requests leave together while it is overloaded. A queue shorter than that is never a
    /// standing queue, however long the batch takes: all of it is served next.
    pub(super) fn new(limits: QueueLimits, batch_size: usize) -> Arc<Self> {
        Arc::new(Self {
            limits,
            batch_size,
            waiting: Mutex::new(QueueState {
                tickets: VecDeque::new(),
                joined: 0,
                busy_since: Instant::now(),
                last_refusal: None,
                last_departure: Instant::now(),
                service_interval: Duration::ZERO,
            }),
            shares: CallerShares::default(),
            refused: AtomicU64::new(0),
        })
    }

    /// Joins the queue.
    ///
    /// # Errors
    /// `Overloaded` if the queue is too long, or too many places in it are this caller's.
    pub(super) fn enqueue(self: &Arc<Self>) -> Result<Ticket> {
        let now = Instant::now();
        let mut waiting = self.waiting();
        match waiting.tickets.front() {
            None => {
                if !waiting.is_overloaded(now) {
                    waiting.busy_since = now;
                }
            }
            Some((_, first)) => {
                let rush = now.duration_since(waiting.busy_since) < BURST_WINDOW;
                let patience = if rush {
                    BURST_MAX_WAIT
                } else {
                    self.limits.max_wait
                };
                let length = waiting.tickets.len();
                let few = if waiting.is_overloaded(now) {
                    self.batch_size
                } else {
                    MIN_QUEUE_LENGTH
                };
                let many = length >= self.limits.max_waiting as usize;
                let long = length >= few && waiting.expected_wait(*first, now) > patience;
                if many || long {
                    waiting.last_refusal = Some(now);
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(Error::Overloaded("the line is too long".into()));
                }
            }
        }
        let free = (self.limits.max_waiting as usize).saturating_sub(waiting.tickets.len());
        let Some(share) = self.shares.take(free) else {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Error::Overloaded("the caller waits too often".into()));
        };
        waiting.joined += 1;
        let number = waiting.joined;
        waiting.tickets.push_back((number, now));
        Ok(Ticket {
            line: self.clone(),
            number,
            _share: share,
        })
    }

    /// Whether the queue rejected a request within the last [`BURST_WINDOW`]. Rejections because of a caller's share
    /// don't count.
    pub(super) fn is_overloaded(&self) -> bool {
        self.waiting().is_overloaded(Instant::now())
    }

    /// Number of waiting requests, and of those rejected so far.
    pub(super) fn counts(&self) -> (usize, u64) {
        let waiting = self.waiting().tickets.len();
        (waiting, self.refused.load(Ordering::Relaxed))
    }

    fn waiting(&self) -> MutexGuard<'_, QueueState> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut waiting = self.line.waiting();
        // The queue is in order of its numbers, so a binary search finds the place.
        let found = waiting
            .tickets
            .binary_search_by_key(&self.number, |(number, _)| *number);
        if let Ok(index) = found {
            let place = waiting.tickets.remove(index);
            if let Some((_, joined)) = place.filter(|_| index == 0) {
                waiting.record_departure(joined);
            }
        }
    }
}

/// Limits how many requests run at once; the others wait in an admission queue.
#[derive(Debug)]
pub(super) struct ConcurrencyLimiter {
    permits: Arc<Semaphore>,
    size: usize,
    line: Arc<AdmissionQueue>,
}

impl ConcurrencyLimiter {
    /// Admits `permits` requests at once.
    pub(super) fn new(permits: u32, limits: QueueLimits) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(permits as usize)),
            size: permits as usize,
            line: AdmissionQueue::new(limits, 1),
        }
    }

    /// Waits for a permit, which is released when dropped.
    ///
    /// # Errors
    /// `Overloaded` if too many wait, or no permit becomes free in time.
    pub(super) async fn acquire(&self) -> Result<OwnedSemaphorePermit> {
        if let Ok(permits) = self.permits.clone().try_acquire_owned() {
            return Ok(permits);
        }
        let _place = self.line.enqueue()?;
        let room = timeout(ACQUIRE_TIMEOUT, self.permits.clone().acquire_owned()).await;
        match room {
            Ok(Ok(permits)) => Ok(permits),
            _ => Err(Error::Overloaded("there was no room in time".into())),
        }
    }

    /// Whether a permit is in use.
    pub(super) fn is_in_use(&self) -> bool {
        self.permits.available_permits() < self.size
    }

    /// Number of waiting requests, and of those rejected so far.
    pub(super) fn counts(&self) -> (usize, u64) {
        self.line.counts()
    }
}
