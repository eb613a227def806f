//! The connections that there are: how many, from where, and what each has in hand.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use tokio::sync::oneshot;

use super::load::Carrier;

/// How many connections there may be, and how much they may have in hand.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In all.
    pub connections: u32,
    /// From one address.
    pub per_address: u32,
    /// Bytes of requests and answers that are under way, in all.
    pub bytes: u64,
}

/// All connections.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    /// In hand, in all.
    bytes: AtomicU64,
    refused: AtomicU64,
    closed: AtomicU64,
    there: Mutex<There>,
}

#[derive(Debug, Default)]
struct There {
    taken: u64,
    all: HashMap<u64, Arc<Held>>,
    by_address: HashMap<IpAddr, u32>,
}

/// What a connection has in hand.
#[derive(Debug)]
pub(super) struct Held {
    shared: Arc<Shared>,
    bytes: AtomicU64,
    closing: AtomicBool,
    close: Mutex<Option<oneshot::Sender<()>>>,
}

/// A connection that is counted, until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    held: Arc<Held>,
    number: u64,
    address: IpAddr,
}

/// The network by which an address is counted: a single host has a whole IPv6 /64 of addresses.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

impl Connections {
    /// None so far.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared {
            limits,
            bytes: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            there: Mutex::default(),
        }))
    }

    /// Counts another one, and says how it is told to close; nothing if there are too many.
    pub(crate) fn take(&self, address: IpAddr) -> Option<(Counted, oneshot::Receiver<()>)> {
        let limits = &self.0.limits;
        let mut there = self.0.there();
        let from_there = there.by_address.get(&address).copied().unwrap_or_default();
        if there.all.len() >= limits.connections as usize || from_there >= limits.per_address {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let (close, closing) = oneshot::channel();
        let held = Arc::new(Held {
            shared: self.0.clone(),
            bytes: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            close: Mutex::new(Some(close)),
        });
        there.taken += 1;
        let number = there.taken;
        there.all.insert(number, held.clone());
        there.by_address.insert(address, from_there + 1);
        let counted = Counted {
            held,
            number,
            address,
        };
        Some((counted, closing))
    }

    /// Closes the one that has been there for the longest time.
    pub(crate) fn close_oldest(&self) {
        let there = self.0.there();
        let open = there.all.iter();
        let open = open.filter(|(_, held)| !held.closing.load(Ordering::Relaxed));
        if let Some((_, oldest)) = open.min_by_key(|(number, _)| **number) {
            oldest.close();
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.0.there().all.len()
    }

    /// How many were hung up on at once.
    pub(crate) fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// How many were closed because they had too much in hand.
    pub(crate) fn closed(&self) -> u64 {
        self.0.closed.load(Ordering::Relaxed)
    }

    /// How much all have in hand.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn there(&self) -> MutexGuard<'_, There> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes those that have the most in hand, until the others have no more than there may be.
    fn relieve(&self) {
        let there = self.there();
        loop {
            let open = || {
                let all = there.all.values();
                all.filter(|held| !held.closing.load(Ordering::Relaxed))
                    .map(|held| (held.bytes.load(Ordering::Relaxed), held))
            };
            let all: u64 = open().map(|(bytes, _)| bytes).sum();
            let Some((bytes, most)) = open().max_by_key(|(bytes, _)| *bytes) else {
                return;
            };
            if all <= self.limits.bytes {
                return;
            }
            most.close();
            self.closed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                bytes,
                "a connection is closed: it has the most in hand, and all together have too much"
            );
        }
    }
}

impl Held {
    /// Has the connection closed.
    fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        let close = self.close.lock();
        if let Some(close) = close.unwrap_or_else(PoisonError::into_inner).take() {
            // It may be closed already.
            let _ = close.send(());
        }
    }

    pub(super) fn add(&self, bytes: u64) {
        let shared = &self.shared;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let all = shared.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if all > shared.limits.bytes {
            shared.relieve();
        }
    }

    /// Whether it is being closed, or all connections together have more in hand than they may.
    pub(super) fn is_over(&self) -> bool {
        let all = self.shared.bytes.load(Ordering::Relaxed);
        self.closing.load(Ordering::Relaxed) || all > self.shared.limits.bytes
    }

    pub(super) fn subtract(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.shared.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Counted {
    pub(crate) fn carrier(&self) -> Carrier {
        Carrier::new(self.held.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut there = self.held.shared.there();
        there.all.remove(&self.number);
        if let Some(count) = there.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                there.by_address.remove(&self.address);
            }
        }
    }
}
