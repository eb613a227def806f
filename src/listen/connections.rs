//! The table of connections: how many there are, from which networks, of which callers, and the in-flight message bytes
//! of each.

mod eviction;
mod usage;

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

pub(crate) use eviction::TableFull;
pub(super) use usage::ConnectionUsage;

use super::memory::ConnectionHandle;
use crate::store::CallerKey;

/// Calls without credentials have a memory budget of their own: `--message-memory` divided by this, in addition to that
/// of all other calls.
const PUBLIC_BUDGET_DIVISOR: u64 = 8;
/// How long a new connection waits for an evicted one to close.
const MAX_CLOSE_WAIT: Duration = Duration::from_secs(1);

/// Limits on connections and on their in-flight message bytes.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Limit of all connections.
    pub connections: u32,
    /// Limit of connections of one network (see [`network`]) and of one caller, and of concurrent calls without
    /// credentials from one network.
    pub per_address: u32,
    /// Limit of in-flight message bytes, requests and responses, of all connections.
    pub bytes: u64,
    /// Whether callers must authenticate. If so, connections without an authenticated call are closed after a timeout,
    /// or to make room for new ones.
    pub authentication: bool,
}

/// The memory budget that a call counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Budget {
    /// Calls that need no credentials.
    Public,
    /// All other calls.
    Standard,
}

/// The table of all connections.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: ConnectionLimits,
    /// In-flight message bytes of all connections, by budget.
    bytes: [AtomicU64; 2],
    /// The part of `bytes` that belongs to connections that are closing, as of when they were told to close.
    closing: [AtomicU64; 2],
    refused: AtomicU64,
    evicted: AtomicU64,
    unauthenticated_closed: AtomicU64,
    public_refused: AtomicU64,
    table: Mutex<ConnectionTable>,
    /// Notified when a connection has closed.
    connection_closed: Notify,
}

#[derive(Debug, Default)]
struct ConnectionTable {
    last_number: u64,
    all: HashMap<u64, Arc<ConnectionUsage>>,
    networks: HashMap<IpAddr, NetworkUsage>,
    /// Number of connections of each authenticated caller.
    callers: HashMap<CallerKey, u32>,
}

/// Connections and calls from one network.
#[derive(Debug, Default)]
struct NetworkUsage {
    connections: u32,
    public_calls: Arc<AtomicU32>,
    /// Numbers of the connections without an authenticated call, if callers must authenticate.
    unauthenticated: BTreeSet<u64>,
}

/// Keeps a connection registered until it is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionGuard {
    usage: Arc<ConnectionUsage>,
}

/// The network by which an address is counted: a single host has a whole IPv6 /64 of addresses.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

impl ConnectionLimits {
    fn bytes(&self, budget: Budget) -> u64 {
        match budget {
            Budget::Public => self.bytes / PUBLIC_BUDGET_DIVISOR,
            Budget::Standard => self.bytes,
        }
    }
}

impl Connections {
    /// An empty table.
    #[must_use]
    pub fn new(limits: ConnectionLimits) -> Self {
        Self(Arc::new(Shared {
            limits,
            bytes: Default::default(),
            closing: Default::default(),
            refused: AtomicU64::new(0),
            evicted: AtomicU64::new(0),
            unauthenticated_closed: AtomicU64::new(0),
            public_refused: AtomicU64::new(0),
            table: Mutex::default(),
            connection_closed: Notify::new(),
        }))
    }

    /// Registers a connection. The receiver resolves when the connection must close.
    ///
    /// # Errors
    /// A connection limit is reached.
    pub(crate) fn register(
        &self,
        address: IpAddr,
    ) -> Result<(ConnectionGuard, oneshot::Receiver<()>), TableFull> {
        let network = network(address);
        let mut table = self.0.table();
        self.0.make_room(&mut table, network)?;
        table.last_number += 1;
        let number = table.last_number;
        let from_network = table.networks.entry(network).or_default();
        from_network.connections += 1;
        if self.0.limits.authentication {
            from_network.unauthenticated.insert(number);
        }
        let public_calls = from_network.public_calls.clone();
        let (close, closing) = oneshot::channel();
        let usage = Arc::new(ConnectionUsage::new(
            self.0.clone(),
            number,
            network,
            public_calls,
            close,
        ));
        table.all.insert(number, usage.clone());
        Ok((ConnectionGuard { usage }, closing))
    }

    /// Registers a connection, waiting for up to `MAX_CLOSE_WAIT` while evicted connections close, so that a flood of
    /// connections doesn't get legitimate ones rejected. `None` if a limit is reached.
    pub(crate) async fn register_or_wait(
        &self,
        address: IpAddr,
    ) -> Option<(ConnectionGuard, oneshot::Receiver<()>)> {
        let mut deadline = pin!(sleep(MAX_CLOSE_WAIT));
        loop {
            let connection_closed = self.0.connection_closed.notified();
            match self.register(address) {
                Ok(taken) => return Some(taken),
                Err(TableFull::NothingToEvict) => break,
                Err(TableFull::EvictionPending) => tokio::select! {
                    () = connection_closed => {}
                    () = &mut deadline => break,
                },
            }
        }
        self.0.refused.fetch_add(1, Ordering::Relaxed);
        None
    }

    /// Number of connections.
    pub(crate) fn count(&self) -> usize {
        self.0.table().all.len()
    }

    /// Number of connections that were rejected because a connection limit was reached.
    pub(crate) fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Number of connections that were evicted while over the message memory limit.
    pub(crate) fn evicted(&self) -> u64 {
        self.0.evicted.load(Ordering::Relaxed)
    }

    /// Number of connections that were closed because they had no authenticated call.
    pub(crate) fn unauthenticated_closed(&self) -> u64 {
        self.0.unauthenticated_closed.load(Ordering::Relaxed)
    }

    /// Number of calls without credentials that were rejected because their connection or network had too many.
    pub(crate) fn public_refused(&self) -> u64 {
        self.0.public_refused.load(Ordering::Relaxed)
    }

    /// In-flight message bytes of all connections.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = self.0.bytes.iter();
        bytes.map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }
}

impl Shared {
    /// Whether the connections that aren't closing are over the budget.
    fn is_over(&self, budget: Budget) -> bool {
        let [all, closing] = [&self.bytes, &self.closing].map(|bytes| &bytes[budget as usize]);
        let all = all.load(Ordering::Relaxed);
        all.saturating_sub(closing.load(Ordering::Relaxed)) > self.limits.bytes(budget)
    }

    fn table(&self) -> MutexGuard<'_, ConnectionTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionGuard {
    /// Records the caller that the client certificate identifies; false if that caller has too many connections.
    pub(crate) fn set_caller(&self, caller: CallerKey) -> bool {
        let shared = &self.usage.shared;
        let within_limit = !shared.limits.authentication || self.usage.admit(Some(caller));
        if !within_limit {
            shared.refused.fetch_add(1, Ordering::Relaxed);
        }
        within_limit
    }

    /// Number of calls that were rejected on the connection since the last call of this function.
    pub(super) fn take_rejections(&self) -> u32 {
        self.usage.take_rejections()
    }

    pub(crate) fn connection(&self) -> ConnectionHandle {
        ConnectionHandle::new(self.usage.clone())
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let usage = &self.usage;
        let mut table = usage.shared.table();
        table.all.remove(&usage.number);
        usage.record_closed();
        if let Some(network) = table.networks.get_mut(&usage.network) {
            network.connections -= 1;
            network.unauthenticated.remove(&usage.number);
            if network.connections == 0 {
                table.networks.remove(&usage.network);
            }
        }
        if let Some(caller) = usage.caller.get()
            && let Some(count) = table.callers.get_mut(caller)
        {
            *count -= 1;
            if *count == 0 {
                table.callers.remove(caller);
            }
        }
        usage.shared.connection_closed.notify_waiters();
    }
}
