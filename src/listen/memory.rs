//! The in-flight message bytes of a call: what its messages take while they are buffered.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tonic::codegen::Bytes;

use super::{
    FLOW_CONTROL_WINDOW,
    connections::{Budget, ConnectionUsage},
};
use crate::store::CallerKey;

/// The least that a call counts as, in bytes: its state, its headers and, for most calls, its messages. A health watch
/// takes 5 KiB.
pub(crate) const MIN_CALL_BYTES: u64 = 6 << 10;

/// Counts the memory of a call until it is dropped.
#[derive(Debug)]
pub(crate) struct MemoryReservation {
    usage: Arc<ConnectionUsage>,
    budget: Budget,
    is_stream: bool,
    /// Bytes of the call's headers and messages. [`MIN_CALL_BYTES`] count even if this is less.
    bytes: AtomicU64,
    /// The part of `bytes` that belongs to a request that the handler is processing.
    decoded_bytes: AtomicU64,
}

/// Part of a response that isn't written to the connection yet.
struct UnwrittenResponse {
    data: Bytes,
    reservation: Arc<MemoryReservation>,
}

/// A connection, as its calls see it.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionHandle {
    usage: Arc<ConnectionUsage>,
}

impl ConnectionHandle {
    pub(super) fn new(usage: Arc<ConnectionUsage>) -> Self {
        Self { usage }
    }

    /// Records that a call is admitted, and its caller if authenticated; false if that caller has too many connections.
    pub(crate) fn admit(&self, caller: Option<CallerKey>) -> bool {
        self.usage.admit(caller)
    }

    /// Counts the memory of an admitted call.
    pub(crate) fn begin_call(&self) -> MemoryReservation {
        self.new_reservation(Budget::Standard)
    }

    /// Counts a request stream, with what HTTP/2 buffers of it; `None` if the connection has too many.
    pub(crate) fn begin_stream(&self) -> Option<MemoryReservation> {
        if !self.usage.begin_stream() {
            return None;
        }
        let mut reservation = self.new_reservation(Budget::Standard);
        reservation.is_stream = true;
        reservation.add(FLOW_CONTROL_WINDOW as usize);
        Some(reservation)
    }

    /// Records a rejected call, which delays the next read unless a call on the connection has been admitted.
    pub(crate) fn record_rejection(&self) {
        self.usage.record_rejection();
    }

    /// Whether the connection is closing, so that further work for it is useless.
    pub(crate) fn is_closing(&self) -> bool {
        self.usage.is_closing()
    }

    /// Counts a call that needs no credentials; `None` if there are too many of these.
    pub(crate) fn begin_public(&self) -> Option<MemoryReservation> {
        self.usage
            .begin_public()
            .then(|| self.new_reservation(Budget::Public))
    }

    fn new_reservation(&self, budget: Budget) -> MemoryReservation {
        self.usage.add(budget, MIN_CALL_BYTES);
        MemoryReservation {
            usage: self.usage.clone(),
            budget,
            is_stream: false,
            bytes: AtomicU64::new(0),
            decoded_bytes: AtomicU64::new(0),
        }
    }
}

impl MemoryReservation {
    /// Counts bytes of a message that is buffered from now on.
    pub(crate) fn add(&self, bytes: usize) {
        let bytes = bytes as u64;
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let more = (before + bytes).saturating_sub(MIN_CALL_BYTES.max(before));
        if more > 0 {
            self.usage.add(self.budget, more);
        }
    }

    /// Reserves bytes for a request that is about to be decoded. False, without a reservation, if the connection is
    /// closing or all connections are over the budget; but a call always gets [`MIN_CALL_BYTES`].
    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        self.add(bytes);
        let small = self.bytes.load(Ordering::Relaxed) <= MIN_CALL_BYTES;
        if small || !self.usage.is_over(self.budget) {
            return true;
        }
        self.subtract(bytes);
        false
    }

    /// Whether the connection is closing.
    pub(crate) fn is_closing(&self) -> bool {
        self.usage.is_closing()
    }

    /// Stops counting bytes that are no longer buffered.
    pub(crate) fn subtract(&self, bytes: usize) {
        self.release(bytes as u64);
    }

    /// Keeps counting bytes of a request until the response begins, because its handler still uses the decoded request.
    pub(crate) fn hold_until_response(&self, bytes: usize) {
        self.decoded_bytes
            .fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Stops counting the request's bytes: the handler has returned its response.
    pub(crate) fn release_decoded(&self) {
        self.release(self.decoded_bytes.swap(0, Ordering::Relaxed));
    }

    /// Counts part of a response until the connection has written all of it and drops it.
    pub(crate) fn track_write(self: &Arc<Self>, data: Bytes) -> Bytes {
        self.add(data.len());
        let reservation = self.clone();
        Bytes::from_owner(UnwrittenResponse { data, reservation })
    }

    fn release(&self, bytes: u64) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let less = before.max(MIN_CALL_BYTES) - before.saturating_sub(bytes).max(MIN_CALL_BYTES);
        if less > 0 {
            self.usage.subtract(self.budget, less);
        }
    }
}

impl AsRef<[u8]> for UnwrittenResponse {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for UnwrittenResponse {
    fn drop(&mut self) {
        self.reservation.subtract(self.data.len());
    }
}

impl Drop for MemoryReservation {
    fn drop(&mut self) {
        let bytes = self.bytes.load(Ordering::Relaxed).max(MIN_CALL_BYTES);
        self.usage.subtract(self.budget, bytes);
        if self.budget == Budget::Public {
            self.usage.end_public();
        }
        if self.is_stream {
            self.usage.end_stream();
        }
    }
}
