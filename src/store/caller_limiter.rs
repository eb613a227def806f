//! Fairness between callers: one caller's slow reads leave connections to the others.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::OwnedSemaphorePermit;

use super::{
    admission_queue::{ConcurrencyLimiter, QueueLimits},
    caller_share::CallerKey,
};
use crate::error::Result;

/// A read that takes at least this long is slow.
const SLOW_READ: Duration = Duration::from_millis(250);
/// How long a caller's reads are limited to half of the connections after a slow one.
const SLOW_CALLER_WINDOW: Duration = Duration::from_secs(10);
/// Beyond this many tracked callers, idle ones are removed.
const MAX_TRACKED_CALLERS: usize = 1000;

/// Admits as many reads at once as there are connections. A caller whose reads search, or were slow recently, first
/// waits in a queue of its own, which admits its reads to half of the connections.
#[derive(Debug)]
pub(super) struct PerCallerLimiter {
    all: ConcurrencyLimiter,
    share: u32,
    limits: QueueLimits,
    refused: AtomicU64,
    callers: Mutex<HashMap<CallerKey, CallerState>>,
}

#[derive(Debug)]
struct CallerState {
    limiter: Arc<ConcurrencyLimiter>,
    slow_until: Instant,
}

/// Permission to read, released when dropped.
#[derive(Debug)]
pub(super) struct AdmissionPermit {
    limiter: Arc<PerCallerLimiter>,
    caller: Option<CallerKey>,
    began: Instant,
    _permits: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

impl PerCallerLimiter {
    /// Admits `room` reads at once.
    pub(super) fn new(room: u32, limits: QueueLimits) -> Self {
        Self {
            all: ConcurrencyLimiter::new(room, limits),
            share: (room / 2).max(1),
            limits,
            refused: AtomicU64::new(0),
            callers: Mutex::default(),
        }
    }

    /// Waits for admission of a read of the current caller, or of one that is shared by several callers.
    ///
    /// # Errors
    /// `Overloaded` if too many wait.
    pub(super) async fn acquire(self: &Arc<Self>, read: ReadKind) -> Result<AdmissionPermit> {
        let caller = match read {
            ReadKind::Shared => None,
            ReadKind::Search | ReadKind::Regular => CallerKey::current(),
        };
        let caller_limiter = caller
            .as_ref()
            .and_then(|caller| self.caller_limiter(caller, read));
        let caller_limiter = match caller_limiter {
            Some(caller_limiter) => {
                let entered = caller_limiter.acquire().await;
                if entered.is_err() {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
                Some(entered?)
            }
            None => None,
        };
        let all = self.all.acquire().await?;
        Ok(AdmissionPermit {
            limiter: self.clone(),
            caller,
            began: Instant::now(),
            _permits: (all, caller_limiter),
        })
    }

    /// The caller's own limiter, if this read has to pass it.
    fn caller_limiter(
        &self,
        caller: &CallerKey,
        read: ReadKind,
    ) -> Option<Arc<ConcurrencyLimiter>> {
        let mut callers = self.callers();
        if read == ReadKind::Search {
            return Some(self.caller(&mut callers, caller).limiter.clone());
        }
        let known = callers.get(caller)?;
        (known.slow_until > Instant::now()).then(|| known.limiter.clone())
    }

    fn caller<'a>(
        &self,
        callers: &'a mut HashMap<CallerKey, CallerState>,
        caller: &CallerKey,
    ) -> &'a mut CallerState {
        let now = Instant::now();
        if callers.len() >= MAX_TRACKED_CALLERS && !callers.contains_key(caller) {
            callers.retain(|_, known| known.slow_until > now || known.limiter.is_in_use());
        }
        callers.entry(*caller).or_insert_with(|| CallerState {
            limiter: Arc::new(ConcurrencyLimiter::new(self.share, self.limits)),
            slow_until: now,
        })
    }

    /// Number of waiting reads, and of those rejected so far.
    pub(super) fn counts(&self) -> (usize, u64) {
        let (mut waiting, refused) = self.all.counts();
        waiting += self
            .callers()
            .values()
            .map(|known| known.limiter.counts().0)
            .sum::<usize>();
        (waiting, refused + self.refused.load(Ordering::Relaxed))
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<CallerKey, CallerState>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The kind of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadKind {
    /// A search: it may look at every row of a table.
    Search,
    /// Any other read of a single caller.
    Regular,
    /// A read whose result several callers may wait for, such as a load into the cache.
    Shared,
}

impl Drop for AdmissionPermit {
    fn drop(&mut self) {
        let Some(caller) = &self.caller else { return };
        if self.began.elapsed() >= SLOW_READ {
            let mut callers = self.limiter.callers();
            let known = self.limiter.caller(&mut callers, caller);
            known.slow_until = Instant::now() + SLOW_CALLER_WINDOW;
        }
    }
}
