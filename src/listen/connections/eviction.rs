//! Eviction: which connections are closed when there are too many, or when they are over the message memory limit.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Budget, ConnectionTable, ConnectionUsage, Connections, NetworkUsage, Shared};
use crate::store::CallerKey;

/// How long a connection without an authenticated call may be idle, if callers must authenticate.
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(10);
/// How many connections may be closing beyond the limit.
const MAX_PENDING_EVICTIONS: usize = 8;

/// The caller or network by which a connection's memory is summed.
#[derive(PartialEq, Eq, Hash)]
enum Owner {
    Caller(CallerKey),
    Network(IpAddr),
}

/// Why a connection can't be registered.
#[derive(Debug)]
pub(crate) enum TableFull {
    /// Evicted connections are still closing: there is room once one has closed.
    EvictionPending,
    /// No connection can be evicted.
    NothingToEvict,
}

impl Connections {
    /// Closes the oldest connection of the network that has the most.
    pub(crate) fn close_oldest(&self) {
        let table = self.0.table();
        let open = table.all.values();
        let open: Vec<_> = open.filter(|usage| !usage.is_closing()).collect();
        let from = |network| open.iter().filter(|usage| usage.network == network).count();
        let oldest = open
            .iter()
            .max_by_key(|usage| (from(usage.network), Reverse(usage.number)));
        if let Some(oldest) = oldest {
            oldest.close();
        }
    }

    /// Closes connections that have had no authenticated call and have been idle for [`AUTHENTICATION_TIMEOUT`].
    pub(crate) fn close_unauthenticated(&self) {
        let mut table = self.0.table();
        let ConnectionTable { all, networks, .. } = &mut *table;
        for NetworkUsage {
            unauthenticated, ..
        } in networks.values_mut()
        {
            unauthenticated.retain(|number| {
                let idle = all.get(number);
                let idle = idle.filter(|usage| usage.idle_time() >= AUTHENTICATION_TIMEOUT);
                if let Some(usage) = idle {
                    self.0.close_unauthenticated(usage);
                }
                idle.is_none()
            });
        }
    }
}

impl Shared {
    /// Makes room for another connection from a network. If callers must authenticate, this closes the oldest
    /// connection without an authenticated call: of the same network if that is at its limit, else of the network that
    /// has the most of these.
    pub(super) fn make_room(
        &self,
        table: &mut ConnectionTable,
        network: IpAddr,
    ) -> Result<(), TableFull> {
        let limits = &self.limits;
        let from_network = table.networks.get(&network);
        let from_network = from_network.map_or(0, |network| network.connections as usize);
        let (count, limit, network) = if from_network >= limits.per_address as usize {
            (from_network, limits.per_address, Some(network))
        } else if table.all.len() >= limits.connections as usize {
            let networks = table.networks.iter();
            let most = networks.max_by_key(|(_, network)| network.unauthenticated.len());
            let most = most.map(|(network, _)| *network);
            (table.all.len(), limits.connections, most)
        } else {
            return Ok(());
        };
        if !limits.authentication {
            return Err(TableFull::NothingToEvict);
        }
        if count >= limit as usize + MAX_PENDING_EVICTIONS {
            return Err(TableFull::EvictionPending);
        }
        let network = network.and_then(|network| table.networks.get_mut(&network));
        let oldest = network.and_then(|network| network.unauthenticated.pop_first());
        let oldest = oldest.and_then(|number| table.all.get(&number));
        let Some(oldest) = oldest else {
            return Err(TableFull::NothingToEvict);
        };
        self.close_unauthenticated(oldest);
        Ok(())
    }

    fn close_unauthenticated(&self, usage: &ConnectionUsage) {
        usage.close();
        self.unauthenticated_closed.fetch_add(1, Ordering::Relaxed);
    }

    /// Evicts connections until the others are within the budget. Connections without an admitted call go first, then
    /// those of the caller with the most bytes (of the network, if the caller is unknown), then those with the most
    /// bytes themselves.
    pub(super) fn evict_over_limit(&self, budget: Budget) {
        let limit = self.limits.bytes(budget);
        let table = self.table();
        let open = table.all.values();
        let open = open.filter(|usage| !usage.is_closing());
        let mut open: Vec<_> = open.map(|usage| (usage.bytes(budget), usage)).collect();
        let mut all: u64 = open.iter().map(|(bytes, _)| bytes).sum();
        if all <= limit {
            return;
        }
        let mut shares = HashMap::new();
        for (bytes, usage) in &open {
            *shares.entry(owner(usage)).or_insert(0) += bytes;
        }
        let key = |shares: &HashMap<Owner, u64>, (bytes, usage): &(u64, &Arc<ConnectionUsage>)| {
            let share = shares.get(&owner(usage)).copied();
            (!usage.is_admitted(), share.unwrap_or_default(), *bytes)
        };
        open.retain(|(bytes, _)| *bytes > 0);
        while all > limit {
            let indices = 0..open.len();
            let Some(most) = indices.max_by_key(|index| key(&shares, &open[*index])) else {
                return;
            };
            let (bytes, usage) = open.swap_remove(most);
            all -= bytes;
            if let Some(share) = shares.get_mut(&owner(usage)) {
                *share -= bytes;
            }
            usage.close();
            self.evicted.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                bytes,
                address = %usage.network,
                "evicted: largest connection of its caller or address while over --message-memory"
            );
        }
    }
}

fn owner(usage: &ConnectionUsage) -> Owner {
    match usage.caller.get() {
        Some(caller) => Owner::Caller(*caller),
        None => Owner::Network(usage.network),
    }
}
