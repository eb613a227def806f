//! Rate limits: calls of each authenticated caller, and failed or unauthenticated calls of each address.

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

/// Once this many callers or addresses have buckets, those that are full again are removed before another is added.
const PRUNE_THRESHOLD: usize = 10_000;
/// How far ahead of its rate a caller may get: a second's worth of calls at once.
const BURST: Duration = Duration::from_secs(1);
/// Rejections of the same caller or address are logged once in this time.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Limits each caller to a number of calls per second, with bursts of one second's worth (GCRA: ITU-T I.371, annex A).
#[derive(Debug)]
pub struct RateLimiter {
    callers: Buckets<CallerKey>,
    /// Calls without an authenticated caller, including those that are rejected for that.
    addresses: Buckets<IpAddr>,
    refused: Arc<AtomicU64>,
}

/// A call over its rate limit.
#[derive(Debug)]
pub(super) struct RateLimited {
    wait: Duration,
    /// Whether a rejection of the same caller or address was logged within `LOG_INTERVAL`.
    pub(super) recently_logged: bool,
}

#[derive(Debug)]
struct Buckets<K> {
    interval: Duration,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    /// The theoretical arrival time of GCRA: the end of the counted calls if they were spaced at the rate.
    until: Instant,
    /// When a rejection was last logged.
    logged: Option<Instant>,
}

impl RateLimiter {
    /// Limits callers and addresses to this many calls per second.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            callers: Buckets::new(interval),
            addresses: Buckets::new(interval),
            refused: Arc::default(),
        }
    }

    /// Counter of the calls that were rejected.
    #[must_use]
    pub fn refused(&self) -> Arc<AtomicU64> {
        self.refused.clone()
    }

    /// Counts a call of an authenticated caller.
    pub(super) fn check_caller(&self, caller: CallerKey) -> Result<(), RateLimited> {
        self.record(self.callers.count(&caller))
    }

    /// Counts a call without an authenticated caller against its address.
    pub(super) fn check_address(&self, peer: Option<&Peer>) -> Result<(), RateLimited> {
        self.record(self.addresses.count(&address(peer)))
    }

    /// Whether the next call without an authenticated caller from this address would be rejected.
    pub(super) fn is_exhausted(&self, peer: Option<&Peer>) -> bool {
        self.addresses.is_exhausted(&address(peer))
    }

    fn record(&self, counted: Result<(), RateLimited>) -> Result<(), RateLimited> {
        if counted.is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        counted
    }
}

/// The network by which calls without an authenticated caller are counted.
fn address(peer: Option<&Peer>) -> IpAddr {
    let remote = peer.and_then(|peer| peer.remote);
    remote.map_or(Ipv4Addr::UNSPECIFIED.into(), |remote| network(remote.ip()))
}

impl<K: Copy + Hash + Eq> Buckets<K> {
    fn new(interval: Duration) -> Self {
        Self {
            interval,
            buckets: Mutex::default(),
        }
    }

    fn count(&self, key: &K) -> Result<(), RateLimited> {
        let now = Instant::now();
        let mut buckets = self.buckets();
        if let Some(used) = buckets.get_mut(key) {
            let next = used.until.max(now) + self.interval;
            let ahead = next.duration_since(now);
            if ahead > BURST {
                let logged = used.logged;
                let recently_logged =
                    logged.is_some_and(|at| now.duration_since(at) < LOG_INTERVAL);
                if !recently_logged {
                    used.logged = Some(now);
                }
                let wait = ahead - BURST;
                return Err(RateLimited {
                    wait,
                    recently_logged,
                });
            }
            used.until = next;
            return Ok(());
        }
        if buckets.len() >= PRUNE_THRESHOLD {
            buckets.retain(|_, used| used.until > now);
        }
        let first = Bucket {
            until: now + self.interval,
            logged: None,
        };
        buckets.insert(*key, first);
        Ok(())
    }

    fn is_exhausted(&self, key: &K) -> bool {
        let limit = Instant::now() + BURST;
        let buckets = self.buckets();
        buckets
            .get(key)
            .is_some_and(|used| used.until + self.interval > limit)
    }

    fn buckets(&self) -> MutexGuard<'_, HashMap<K, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<RateLimited> for Error {
    fn from(RateLimited { wait, .. }: RateLimited) -> Self {
        Self::RateLimited(wait)
    }
}
