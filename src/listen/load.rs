//! What a call has in hand: the bytes of its messages that are buffered now.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tonic::codegen::Bytes;

use super::{
    WINDOW,
    connections::{Budget, Held},
};
use crate::store::CallerKey;

/// What a call takes at least: its state, its headers, and the messages of most. A health watch takes 5 KiB.
pub(crate) const CALL: u64 = 6 << 10;

/// What a call has in hand, until this is dropped.
#[derive(Debug)]
pub(crate) struct Load {
    held: Arc<Held>,
    budget: Budget,
    is_stream: bool,
    /// Of its messages.
    bytes: AtomicU64,
    /// Those of them that are of a request that the call's handler works on.
    decoded: AtomicU64,
}

/// Part of a response that isn't written to the connection yet.
struct Unwritten {
    data: Bytes,
    load: Arc<Load>,
}

/// A connection, for those who make calls on it.
#[derive(Clone, Debug)]
pub(crate) struct Carrier {
    held: Arc<Held>,
}

impl Carrier {
    pub(super) fn new(held: Arc<Held>) -> Self {
        Self { held }
    }

    /// Notes that a call is let in, and whose it is if callers are known; false if that caller has too many
    /// connections.
    pub(crate) fn admit(&self, caller: Option<CallerKey>) -> bool {
        self.held.admit(caller)
    }

    /// Counts a call that is let in.
    pub(crate) fn begin(&self) -> Load {
        self.load(Budget::Admitted)
    }

    /// Counts a stream of requests that is let in, and what HTTP/2 buffers of it; nothing if there are too many.
    pub(crate) fn begin_stream(&self) -> Option<Load> {
        if !self.held.begin_stream() {
            return None;
        }
        let mut load = self.load(Budget::Admitted);
        load.is_stream = true;
        load.add(WINDOW as usize);
        Some(load)
    }

    /// Notes that a call was refused: unless others on the connection have been let in, it is read more slowly.
    pub(crate) fn refused(&self) {
        self.held.refused();
    }

    /// Whether the connection is being closed: nothing that is still done for it is of use.
    pub(crate) fn is_closing(&self) -> bool {
        self.held.is_closing()
    }

    /// Counts a call that needs no credentials; nothing if there are too many of these.
    pub(crate) fn begin_public(&self) -> Option<Load> {
        self.held.begin_public().then(|| self.load(Budget::Public))
    }

    fn load(&self, budget: Budget) -> Load {
        self.held.add(budget, CALL);
        Load {
            held: self.held.clone(),
            budget,
            is_stream: false,
            bytes: AtomicU64::new(0),
            decoded: AtomicU64::new(0),
        }
    }
}

impl Load {
    /// Counts bytes of a message that are buffered from now on.
    pub(crate) fn add(&self, bytes: usize) {
        let bytes = bytes as u64;
        let before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let more = (before + bytes).saturating_sub(CALL.max(before));
        if more > 0 {
            self.held.add(self.budget, more);
        }
    }

    /// Counts bytes that a request takes once it is decoded, if there is room for them: none where the connection is being
    /// closed, or all connections together have too much. What a call takes at least is always there.
    pub(crate) fn reserve(&self, bytes: usize) -> bool {
        self.add(bytes);
        let small = self.bytes.load(Ordering::Relaxed) <= CALL;
        if small || !self.held.is_over(self.budget) {
            return true;
        }
        self.subtract(bytes);
        false
    }

    /// Whether the connection is being closed.
    pub(crate) fn is_closing(&self) -> bool {
        self.held.is_closing()
    }

    /// Counts bytes no longer that are no longer buffered.
    pub(crate) fn subtract(&self, bytes: usize) {
        self.release(bytes as u64);
    }

    /// Counts bytes of a request until the response begins: the request is decoded, and its handler works on it.
    pub(crate) fn decoded(&self, bytes: usize) {
        self.decoded.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The handler has answered.
    pub(crate) fn responded(&self) {
        self.release(self.decoded.swap(0, Ordering::Relaxed));
    }

    /// Counts part of a response until all of it is written to the connection, which drops it then.
    pub(crate) fn hold(self: &Arc<Self>, data: Bytes) -> Bytes {
        self.add(data.len());
        let load = self.clone();
        Bytes::from_owner(Unwritten { data, load })
    }

    fn release(&self, bytes: u64) {
        let before = self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        let less = before.max(CALL) - before.saturating_sub(bytes).max(CALL);
        if less > 0 {
            self.held.subtract(self.budget, less);
        }
    }
}

impl AsRef<[u8]> for Unwritten {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Unwritten {
    fn drop(&mut self) {
        self.load.subtract(self.data.len());
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let bytes = self.bytes.load(Ordering::Relaxed).max(CALL);
        self.held.subtract(self.budget, bytes);
        if self.budget == Budget::Public {
            self.held.end_public();
        }
        if self.is_stream {
            self.held.end_stream();
        }
    }
}
