//! One connection: who calls on it, and what its calls have in hand.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::{Budget, Shared};
use crate::store::CallerKey;

/// How many calls without credentials a connection may have at once: a watch for each service, several times over.
const MAX_PUBLIC_CALLS: u32 = 32;
/// How many streams of requests a connection may have at once: tools have one.
const MAX_STREAMS: u32 = 32;

/// What a connection has in hand.
#[derive(Debug)]
pub(in crate::listen) struct Held {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u64,
    pub(super) network: IpAddr,
    /// The first known caller on it: others on the same connection, as behind a proxy, count as this one.
    pub(super) caller: OnceLock<CallerKey>,
    admitted: AtomicBool,
    bytes: [AtomicU64; 2],
    /// What it had in hand when it was told to close.
    closing_bytes: [AtomicU64; 2],
    public_calls: AtomicU32,
    streams: AtomicU32,
    /// How many calls were refused on it since it last waited for that.
    refusals: AtomicU32,
    /// Of all connections of the network.
    network_public_calls: Arc<AtomicU32>,
    /// When it began, or when its last call without credentials ended.
    active: Mutex<Instant>,
    closing: AtomicBool,
    close: Mutex<Option<oneshot::Sender<()>>>,
}

impl Held {
    pub(super) fn new(
        shared: Arc<Shared>,
        number: u64,
        network: IpAddr,
        network_public_calls: Arc<AtomicU32>,
        close: oneshot::Sender<()>,
    ) -> Self {
        Self {
            shared,
            number,
            network,
            caller: OnceLock::new(),
            admitted: AtomicBool::new(false),
            bytes: Default::default(),
            closing_bytes: Default::default(),
            public_calls: AtomicU32::new(0),
            streams: AtomicU32::new(0),
            refusals: AtomicU32::new(0),
            network_public_calls,
            active: Mutex::new(Instant::now()),
            closing: AtomicBool::new(false),
            close: Mutex::new(Some(close)),
        }
    }

    /// Has the connection closed. Under the lock.
    pub(super) fn close(&self) {
        if self.closing.swap(true, Ordering::Relaxed) {
            return;
        }
        for (index, bytes) in self.bytes.iter().enumerate() {
            let bytes = bytes.load(Ordering::Relaxed);
            self.closing_bytes[index].store(bytes, Ordering::Relaxed);
            self.shared.closing[index].fetch_add(bytes, Ordering::Relaxed);
        }
        let close = self.close.lock();
        if let Some(close) = close.unwrap_or_else(PoisonError::into_inner).take() {
            // It may be closed already.
            let _ = close.send(());
        }
    }

    /// Notes that the connection is gone. Under the lock.
    pub(super) fn closed(&self) {
        for (bytes, closing) in self.closing_bytes.iter().zip(&self.shared.closing) {
            closing.fetch_sub(bytes.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Notes that a call on it is let in, and whose it is if callers are known; false if that caller has too many
    /// connections.
    pub(in crate::listen) fn admit(&self, caller: Option<CallerKey>) -> bool {
        if self.is_admitted() {
            return true;
        }
        let mut there = self.shared.there();
        // Another call may have been first, or the connection may be gone.
        if self.is_admitted() || !there.all.contains_key(&self.number) {
            return true;
        }
        if let Some(caller) = caller {
            let count = there.callers.get(&caller).copied().unwrap_or_default();
            if count >= self.shared.limits.per_address {
                return false;
            }
            there.callers.insert(caller, count + 1);
            // Set under the lock only.
            let _ = self.caller.set(caller);
        }
        if let Some(network) = there.networks.get_mut(&self.network) {
            network.unauthenticated.remove(&self.number);
        }
        self.admitted.store(true, Ordering::Relaxed);
        true
    }

    /// Whether a call on it has been let in.
    pub(super) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Counts a call without credentials; false if the connection or its network has too many.
    pub(in crate::listen) fn begin_public(&self) -> bool {
        let here = self.public_calls.fetch_add(1, Ordering::Relaxed);
        let from_there = self.network_public_calls.fetch_add(1, Ordering::Relaxed);
        let few = here < MAX_PUBLIC_CALLS && from_there < self.shared.limits.per_address;
        if !few {
            self.end_public();
            self.shared.public_refused.fetch_add(1, Ordering::Relaxed);
        }
        few
    }

    pub(in crate::listen) fn end_public(&self) {
        *self.active.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.public_calls.fetch_sub(1, Ordering::Relaxed);
        self.network_public_calls.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a stream of requests; false if the connection has too many.
    pub(in crate::listen) fn begin_stream(&self) -> bool {
        let few = self.streams.fetch_add(1, Ordering::Relaxed) < MAX_STREAMS;
        if !few {
            self.end_stream();
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
        few
    }

    pub(in crate::listen) fn end_stream(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// Notes that a call was refused, which slows the connection down unless others on it have been let in.
    pub(in crate::listen) fn refused(&self) {
        if !self.is_admitted() {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(in crate::listen) fn take_refusals(&self) -> u32 {
        self.refusals.swap(0, Ordering::Relaxed)
    }

    /// For how long it has had no call.
    pub(super) fn idle(&self) -> Duration {
        if self.public_calls.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        let active = self.active.lock();
        active.unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    pub(super) fn bytes(&self, budget: Budget) -> u64 {
        self.bytes[budget as usize].load(Ordering::Relaxed)
    }

    pub(in crate::listen) fn add(&self, budget: Budget, bytes: u64) {
        let shared = &self.shared;
        self.bytes[budget as usize].fetch_add(bytes, Ordering::Relaxed);
        shared.bytes[budget as usize].fetch_add(bytes, Ordering::Relaxed);
        if shared.is_over(budget) {
            shared.relieve(budget);
        }
    }

    pub(in crate::listen) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Whether it is being closed, or all connections together have more in hand than they may.
    pub(in crate::listen) fn is_over(&self, budget: Budget) -> bool {
        let all = self.shared.bytes[budget as usize].load(Ordering::Relaxed);
        self.is_closing() || all > self.shared.limits.bytes(budget)
    }

    pub(in crate::listen) fn subtract(&self, budget: Budget, bytes: u64) {
        self.bytes[budget as usize].fetch_sub(bytes, Ordering::Relaxed);
        self.shared.bytes[budget as usize].fetch_sub(bytes, Ordering::Relaxed);
    }
}
