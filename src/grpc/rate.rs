//! How often each caller may call.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::error::{Error, Result};

/// So many callers are remembered until those who needn't be are forgotten.
const MANY: usize = 10_000;
/// How much of the future a caller may use up at once.
const BURST: Duration = Duration::from_secs(1);

/// So many calls a second for each caller, and a second's worth at once (GCRA: ITU-T I.371, annex A).
#[derive(Debug)]
pub struct Rate {
    interval: Duration,
    /// Until when each caller's calls would take if they came at the rate.
    used: Mutex<HashMap<String, Instant>>,
    refused: Arc<AtomicU64>,
}

impl Rate {
    /// So many calls a second.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_second.max(1),
            used: Mutex::default(),
            refused: Arc::default(),
        }
    }

    /// How many calls came too often so far.
    #[must_use]
    pub fn refused(&self) -> Arc<AtomicU64> {
        self.refused.clone()
    }

    /// Counts a call.
    ///
    /// # Errors
    /// The caller has called too often.
    pub(super) fn count(&self, caller: &str) -> Result<()> {
        let now = Instant::now();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = used.get_mut(caller) {
            let next = (*until).max(now) + self.interval;
            let ahead = next.duration_since(now);
            if ahead > BURST {
                self.refused.fetch_add(1, Ordering::Relaxed);
                return Err(Error::TooOften(ahead - BURST));
            }
            *until = next;
            return Ok(());
        }
        if used.len() >= MANY {
            used.retain(|_, until| *until > now);
        }
        used.insert(caller.to_owned(), now + self.interval);
        Ok(())
    }
}
