//! The usage of one connection: its caller, and its calls' in-flight message bytes.

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

/// Maximum number of concurrent calls without credentials on a connection: several times a health watch for each
/// service.
const MAX_PUBLIC_CALLS: u32 = 32;
/// Maximum number of concurrent request streams on a connection: tools need one.
const MAX_REQUEST_STREAMS: u32 = 32;

/// The usage of a connection.
#[derive(Debug)]
pub(in crate::listen) struct ConnectionUsage {
    pub(super) shared: Arc<Shared>,
    pub(super) number: u64,
    pub(super) network: IpAddr,
    /// The first authenticated caller. Others on the same connection, such as behind a proxy, count as this one.
    pub(super) caller: OnceLock<CallerKey>,
    admitted: AtomicBool,
    bytes: [AtomicU64; 2],
    /// In-flight message bytes when the connection was told to close.
    bytes_at_close: [AtomicU64; 2],
    public_calls: AtomicU32,
    streams: AtomicU32,
    /// Number of calls that were rejected since the connection last backed off.
    rejections: AtomicU32,
    /// Calls without credentials on all connections of the network.
    network_public_calls: Arc<AtomicU32>,
    /// When the connection began, or its last call without credentials ended.
    last_active: Mutex<Instant>,
    closing: AtomicBool,
    close: Mutex<Option<oneshot::Sender<()>>>,
}

impl ConnectionUsage {
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
            bytes_at_close: Default::default(),
            public_calls: AtomicU32::new(0),
            streams: AtomicU32::new(0),
            rejections: AtomicU32::new(0),
            network_public_calls,
            last_active: Mutex::new(Instant::now()),
            closing: AtomicBool::new(false),
            close: Mutex::new(Some(close)),
        }
    }

    /// Tells the connection to close. The caller holds the table's lock.
    pub(super) fn close(&self) {
        if self.closing.swap(true, Ordering::Relaxed) {
            return;
        }
        for (index, bytes) in self.bytes.iter().enumerate() {
            let bytes = bytes.load(Ordering::Relaxed);
            self.bytes_at_close[index].store(bytes, Ordering::Relaxed);
            self.shared.closing[index].fetch_add(bytes, Ordering::Relaxed);
        }
        let close = self.close.lock();
        if let Some(close) = close.unwrap_or_else(PoisonError::into_inner).take() {
            // Fails if the connection is closed already.
            let _ = close.send(());
        }
    }

    /// Records that the connection has closed. The caller holds the table's lock.
    pub(super) fn record_closed(&self) {
        for (bytes, closing) in self.bytes_at_close.iter().zip(&self.shared.closing) {
            closing.fetch_sub(bytes.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
    }

    /// Records that a call is admitted, and its caller if authenticated; false if that caller has too many connections.
    pub(in crate::listen) fn admit(&self, caller: Option<CallerKey>) -> bool {
        if self.is_admitted() {
            return true;
        }
        let mut table = self.shared.table();
        // Another call may have been admitted first, or the connection may have closed.
        if self.is_admitted() || !table.all.contains_key(&self.number) {
            return true;
        }
        if let Some(caller) = caller {
            let count = table.callers.get(&caller).copied().unwrap_or_default();
            if count >= self.shared.limits.per_address {
                return false;
            }
            table.callers.insert(caller, count + 1);
            // Can't fail: it is set under the lock only, and once.
            let _ = self.caller.set(caller);
        }
        if let Some(network) = table.networks.get_mut(&self.network) {
            network.unauthenticated.remove(&self.number);
        }
        self.admitted.store(true, Ordering::Relaxed);
        true
    }

    /// Whether a call on the connection has been admitted.
    pub(super) fn is_admitted(&self) -> bool {
        self.admitted.load(Ordering::Relaxed)
    }

    /// Counts a call without credentials; false if the connection or its network has too many.
    pub(in crate::listen) fn begin_public(&self) -> bool {
        let here = self.public_calls.fetch_add(1, Ordering::Relaxed);
        let from_network = self.network_public_calls.fetch_add(1, Ordering::Relaxed);
        let within_limit = here < MAX_PUBLIC_CALLS && from_network < self.shared.limits.per_address;
        if !within_limit {
            self.end_public();
            self.shared.public_refused.fetch_add(1, Ordering::Relaxed);
        }
        within_limit
    }

    pub(in crate::listen) fn end_public(&self) {
        *self
            .last_active
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.public_calls.fetch_sub(1, Ordering::Relaxed);
        self.network_public_calls.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts a request stream; false if the connection has too many.
    pub(in crate::listen) fn begin_stream(&self) -> bool {
        let within_limit = self.streams.fetch_add(1, Ordering::Relaxed) < MAX_REQUEST_STREAMS;
        if !within_limit {
            self.end_stream();
            self.rejections.fetch_add(1, Ordering::Relaxed);
        }
        within_limit
    }

    pub(in crate::listen) fn end_stream(&self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }

    /// Records a rejected call, which delays the next read unless a call on the connection has been admitted.
    pub(in crate::listen) fn record_rejection(&self) {
        if !self.is_admitted() {
            self.rejections.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(in crate::listen) fn take_rejections(&self) -> u32 {
        self.rejections.swap(0, Ordering::Relaxed)
    }

    /// Time since the connection began or its last call without credentials ended; zero during such a call.
    pub(super) fn idle_time(&self) -> Duration {
        if self.public_calls.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        let last_active = self.last_active.lock();
        last_active
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed()
    }

    pub(super) fn bytes(&self, budget: Budget) -> u64 {
        self.bytes[budget as usize].load(Ordering::Relaxed)
    }

    pub(in crate::listen) fn add(&self, budget: Budget, bytes: u64) {
        let shared = &self.shared;
        self.bytes[budget as usize].fetch_add(bytes, Ordering::Relaxed);
        shared.bytes[budget as usize].fetch_add(bytes, Ordering::Relaxed);
        if shared.is_over(budget) {
            shared.evict_over_limit(budget);
        }
    }

    pub(in crate::listen) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }

    /// Whether the connection is closing, or all connections, closing ones included, are over the budget.
    pub(in crate::listen) fn is_over(&self, budget: Budget) -> bool {
        let all = self.shared.bytes[budget as usize].load(Ordering::Relaxed);
        self.is_closing() || all > self.shared.limits.bytes(budget)
    }

    pub(in crate::listen) fn subtract(&self, budget: Budget, bytes: u64) {
        self.bytes[budget as usize].fetch_sub(bytes, Ordering::Relaxed);
        self.shared.bytes[budget as usize].fetch_sub(bytes, Ordering::Relaxed);
    }
}
