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
    line::{Gate, Limits},
    share::CallerKey,
};
use crate::error::Result;

/// A read that takes longer is slow.
const SLOW: Duration = Duration::from_millis(250);
/// How long a caller's reads share half of the connections after one of them was slow.
const MEMORY: Duration = Duration::from_secs(10);
/// With more callers in the table, those who don't read are removed.
const MANY: usize = 1000;

/// Admits as many reads at once as there are connections. A caller whose reads search or were slow a moment ago waits in
/// a line of its own for a half of them.
#[derive(Debug)]
pub(super) struct FairGate {
    all: Gate,
    share: u32,
    limits: Limits,
    refused: AtomicU64,
    callers: Mutex<HashMap<CallerKey, Caller>>,
}

#[derive(Debug)]
struct Caller {
    gate: Arc<Gate>,
    slow_until: Instant,
}

/// The right to read, given up when dropped.
#[derive(Debug)]
pub(super) struct Admission {
    gate: Arc<FairGate>,
    caller: Option<CallerKey>,
    began: Instant,
    _permits: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

impl FairGate {
    /// Admits `room` reads at once.
    pub(super) fn new(room: u32, limits: Limits) -> Self {
        Self {
            all: Gate::new(room, limits),
            share: (room / 2).max(1),
            limits,
            refused: AtomicU64::new(0),
            callers: Mutex::default(),
        }
    }

    /// Waits until there is room for a read of the present caller, or for one that serves all callers.
    ///
    /// # Errors
    /// Too many wait.
    pub(super) async fn enter(self: &Arc<Self>, read: Kind) -> Result<Admission> {
        let caller = match read {
            Kind::Shared => None,
            Kind::Search | Kind::Other => CallerKey::present(),
        };
        let own = caller.as_ref().and_then(|caller| self.own(caller, read));
        let own = match own {
            Some(own) => {
                let entered = own.enter().await;
                if entered.is_err() {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                }
                Some(entered?)
            }
            None => None,
        };
        let all = self.all.enter().await?;
        Ok(Admission {
            gate: self.clone(),
            caller,
            began: Instant::now(),
            _permits: (all, own),
        })
    }

    /// The line of the caller, if this read has to wait there.
    fn own(&self, caller: &CallerKey, read: Kind) -> Option<Arc<Gate>> {
        let mut callers = self.callers();
        if read == Kind::Search {
            return Some(self.caller(&mut callers, caller).gate.clone());
        }
        let known = callers.get(caller)?;
        (known.slow_until > Instant::now()).then(|| known.gate.clone())
    }

    fn caller<'a>(
        &self,
        callers: &'a mut HashMap<CallerKey, Caller>,
        caller: &CallerKey,
    ) -> &'a mut Caller {
        let now = Instant::now();
        if callers.len() >= MANY && !callers.contains_key(caller) {
            callers.retain(|_, known| known.slow_until > now || known.gate.is_in_use());
        }
        callers.entry(*caller).or_insert_with(|| Caller {
            gate: Arc::new(Gate::new(self.share, self.limits)),
            slow_until: now,
        })
    }

    /// How many wait, and how many have been refused so far.
    pub(super) fn counts(&self) -> (usize, u64) {
        let (mut waiting, refused) = self.all.counts();
        waiting += self
            .callers()
            .values()
            .map(|known| known.gate.counts().0)
            .sum::<usize>();
        (waiting, refused + self.refused.load(Ordering::Relaxed))
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<CallerKey, Caller>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A search: it may look at every row of a table.
    Search,
    /// Something else that a caller asks for.
    Other,
    /// What several callers may wait for, such as an entry of the cache.
    Shared,
}

impl Drop for Admission {
    fn drop(&mut self) {
        let Some(caller) = &self.caller else { return };
        if self.began.elapsed() >= SLOW {
            let mut callers = self.gate.callers();
            let known = self.gate.caller(&mut callers, caller);
            known.slow_until = Instant::now() + MEMORY;
        }
    }
}
