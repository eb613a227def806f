//! The connections that there are: how many, from where, who calls on them, and what each has in hand.

mod evict;
mod held;

use std::{
    collections::{BTreeSet, HashMap},
    net::{IpAddr, Ipv6Addr},
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot},
    time::sleep,
};

pub(crate) use evict::Full;
pub(super) use held::Held;

use super::load::Carrier;
use crate::store::CallerKey;

/// Calls without credentials have this part of `--message-memory` for themselves, beside what all other calls have.
const PUBLIC_PART: u64 = 8;
/// A connection that is told to close does so within this time.
const MAX_CLOSING_TIME: Duration = Duration::from_secs(1);

/// How many connections there may be, and how much they may have in hand.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// In all.
    pub connections: u32,
    /// From one address, and of one caller.
    pub per_address: u32,
    /// Bytes of requests and answers that are under way, in all.
    pub bytes: u64,
    /// Whether callers must be known: then connections without an authenticated call are closed, after a time or to
    /// make room for new ones.
    pub authentication: bool,
}

/// What the memory of a call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Budget {
    /// Calls that need no credentials.
    Public,
    /// All others.
    Admitted,
}

/// All connections.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    /// In hand, in all, for each budget.
    bytes: [AtomicU64; 2],
    /// What connections had in hand when they were told to close, until they are gone.
    closing: [AtomicU64; 2],
    refused: AtomicU64,
    closed: AtomicU64,
    unauthenticated_closed: AtomicU64,
    public_refused: AtomicU64,
    there: Mutex<There>,
    /// Told when a connection is gone.
    gone: Notify,
}

#[derive(Debug, Default)]
struct There {
    taken: u64,
    all: HashMap<u64, Arc<Held>>,
    networks: HashMap<IpAddr, Network>,
    /// How many connections each known caller has.
    callers: HashMap<CallerKey, u32>,
}

/// What comes from one network.
#[derive(Debug, Default)]
struct Network {
    connections: u32,
    public_calls: Arc<AtomicU32>,
    /// The numbers of the connections that have had no authenticated call, where callers must be known.
    unauthenticated: BTreeSet<u64>,
}

/// A connection that is counted, until this is dropped.
#[derive(Debug)]
pub(crate) struct Counted {
    held: Arc<Held>,
}

/// The network by which an address is counted: a single host has a whole IPv6 /64 of addresses.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

impl Limits {
    fn bytes(&self, budget: Budget) -> u64 {
        match budget {
            Budget::Public => self.bytes / PUBLIC_PART,
            Budget::Admitted => self.bytes,
        }
    }
}

impl Connections {
    /// None so far.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self(Arc::new(Shared {
            limits,
            bytes: Default::default(),
            closing: Default::default(),
            refused: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            unauthenticated_closed: AtomicU64::new(0),
            public_refused: AtomicU64::new(0),
            there: Mutex::default(),
            gone: Notify::new(),
        }))
    }

    /// Counts another one, and says how it is told to close.
    ///
    /// # Errors
    /// There are too many.
    pub(crate) fn take(&self, address: IpAddr) -> Result<(Counted, oneshot::Receiver<()>), Full> {
        let network = network(address);
        let mut there = self.0.there();
        self.0.make_room(&mut there, network)?;
        there.taken += 1;
        let number = there.taken;
        let from_there = there.networks.entry(network).or_default();
        from_there.connections += 1;
        if self.0.limits.authentication {
            from_there.unauthenticated.insert(number);
        }
        let public_calls = from_there.public_calls.clone();
        let (close, closing) = oneshot::channel();
        let held = Arc::new(Held::new(
            self.0.clone(),
            number,
            network,
            public_calls,
            close,
        ));
        there.all.insert(number, held.clone());
        Ok((Counted { held }, closing))
    }

    /// The same, once those that are about to close have left room; nothing if there are too many. In a flood of
    /// connections, no good one is hung up on.
    pub(crate) async fn take_in_turn(
        &self,
        address: IpAddr,
    ) -> Option<(Counted, oneshot::Receiver<()>)> {
        let mut patience = pin!(sleep(MAX_CLOSING_TIME));
        loop {
            let gone = self.0.gone.notified();
            match self.take(address) {
                Ok(taken) => return Some(taken),
                Err(Full::Open) => break,
                Err(Full::Closing) => tokio::select! {
                    () = gone => {}
                    () = &mut patience => break,
                },
            }
        }
        self.0.refused.fetch_add(1, Ordering::Relaxed);
        None
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

    /// How many were closed because they had no authenticated call.
    pub(crate) fn unauthenticated_closed(&self) -> u64 {
        self.0.unauthenticated_closed.load(Ordering::Relaxed)
    }

    /// How many calls without credentials were refused because their connection or address had too many.
    pub(crate) fn public_refused(&self) -> u64 {
        self.0.public_refused.load(Ordering::Relaxed)
    }

    /// How much all have in hand.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = self.0.bytes.iter();
        bytes.map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }
}

impl Shared {
    /// Whether the connections that stay have more in hand than they may.
    fn is_over(&self, budget: Budget) -> bool {
        let [all, closing] = [&self.bytes, &self.closing].map(|bytes| &bytes[budget as usize]);
        let all = all.load(Ordering::Relaxed);
        all.saturating_sub(closing.load(Ordering::Relaxed)) > self.limits.bytes(budget)
    }

    fn there(&self) -> MutexGuard<'_, There> {
        self.there.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    /// Notes whom its certificate names; false if that caller has too many connections.
    pub(crate) fn is_of(&self, caller: CallerKey) -> bool {
        let shared = &self.held.shared;
        let few = !shared.limits.authentication || self.held.admit(Some(caller));
        if !few {
            shared.refused.fetch_add(1, Ordering::Relaxed);
        }
        few
    }

    /// How many calls were refused on it since this was last asked.
    pub(super) fn take_refusals(&self) -> u32 {
        self.held.take_refusals()
    }

    pub(crate) fn carrier(&self) -> Carrier {
        Carrier::new(self.held.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let held = &self.held;
        let mut there = held.shared.there();
        there.all.remove(&held.number);
        held.closed();
        if let Some(network) = there.networks.get_mut(&held.network) {
            network.connections -= 1;
            network.unauthenticated.remove(&held.number);
            if network.connections == 0 {
                there.networks.remove(&held.network);
            }
        }
        if let Some(caller) = held.caller.get()
            && let Some(count) = there.callers.get_mut(caller)
        {
            *count -= 1;
            if *count == 0 {
                there.callers.remove(caller);
            }
        }
        held.shared.gone.notify_waiters();
    }
}
