//! How often each caller may call, and how often each address may fail to be known.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{
    error::Error,
    listen::{Peer, network},
    store::CallerKey,
};

/// So many callers are remembered until those who needn't be are forgotten.
const MANY: usize = 10_000;
/// How much of the future a caller may use up at once.
const BURST: Duration = Duration::from_secs(1);
/// Refusals of the same caller or address are logged this often.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// So many calls a second for each caller, and a second's worth at once (GCRA: ITU-T I.371, annex A).
#[derive(Debug)]
pub struct Rate {
    callers: Buckets<CallerKey>,
    /// Calls of callers who aren't known, and calls that are refused because they aren't.
    addresses: Buckets<IpAddr>,
    refused: Arc<AtomicU64>,
}

/// A call that came too often.
#[derive(Debug)]
pub(super) struct TooOften {
    wait: Duration,
    /// Whether another one of the same caller or address was logged a moment ago.
    pub(super) logged: bool,
}

#[derive(Debug)]
struct Buckets<K> {
    interval: Duration,
    used: Mutex<HashMap<K, Used>>,
}

#[derive(Debug)]
struct Used {
    /// Until when the calls would take if they came at the rate.
    until: Instant,
    /// When a refusal was last logged.
    logged: Option<Instant>,
}

impl Rate {
    /// So many calls a second.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            callers: Buckets::new(interval),
            addresses: Buckets::new(interval),
            refused: Arc::default(),
        }
    }

    /// How many calls came too often so far.
    #[must_use]
    pub fn refused(&self) -> Arc<AtomicU64> {
        self.refused.clone()
    }

    /// Counts a call of a known caller.
    pub(super) fn count_caller(&self, caller: CallerKey) -> Result<(), TooOften> {
        self.counted(self.callers.count(&caller))
    }

    /// Counts a call of a caller who isn't known.
    pub(super) fn count_address(&self, peer: Option<&Peer>) -> Result<(), TooOften> {
        self.counted(self.addresses.count(&address(peer)))
    }

    /// Whether the next call of a caller from there who isn't known comes too often.
    pub(super) fn is_used_up(&self, peer: Option<&Peer>) -> bool {
        self.addresses.is_used_up(&address(peer))
    }

    fn counted(&self, counted: Result<(), TooOften>) -> Result<(), TooOften> {
        if counted.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        counted
    }
}

/// What a caller who isn't known is counted by.
fn address(peer: Option<&Peer>) -> IpAddr {
    let remote = peer.and_then(|peer| peer.remote);
    remote.map_or(Ipv4Addr::UNSPECIFIED.into(), |remote| network(remote.ip()))
}

impl<K: Copy + Hash + Eq> Buckets<K> {
    fn new(interval: Duration) -> Self {
        Self {
            interval,
            used: Mutex::default(),
        }
    }

    fn count(&self, key: &K) -> Result<(), TooOften> {
        let now = Instant::now();
        let mut used = self.used();
        if let Some(used) = used.get_mut(key) {
            let next = used.until.max(now) + self.interval;
            let ahead = next.duration_since(now);
            if ahead > BURST {
                let logged = used.logged;
                let logged = logged.is_some_and(|at| now.duration_since(at) < LOG_INTERVAL);
                if !logged {
                    used.logged = Some(now);
                }
                let wait = ahead - BURST;
                return Err(TooOften { wait, logged });
            }
            used.until = next;
            return Ok(());
        }
        if used.len() >= MANY {
            used.retain(|_, used| used.until > now);
        }
        let first = Used {
            until: now + self.interval,
            logged: None,
        };
        used.insert(*key, first);
        Ok(())
    }

    fn is_used_up(&self, key: &K) -> bool {
        let limit = Instant::now() + BURST;
        let used = self.used();
        used.get(key)
            .is_some_and(|used| used.until + self.interval > limit)
    }

    fn used(&self) -> MutexGuard<'_, HashMap<K, Used>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<TooOften> for Error {
    fn from(TooOften { wait, .. }: TooOften) -> Self {
        Self::TooOften(wait)
    }
}
