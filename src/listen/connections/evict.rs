//! Which connections are closed when there are too many, or when they have too much in hand.

use std::{
    cmp::Reverse,
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use super::{Budget, Connections, Held, Network, Shared, There};
use crate::store::CallerKey;

/// How long a connection may be without an authenticated call, where callers must be known.
const AUTHENTICATION_TIMEOUT: Duration = Duration::from_secs(10);
/// So many connections may be about to close beyond the limit.
const CLOSING: usize = 8;

/// Whose share of the memory a connection's calls take.
#[derive(PartialEq, Eq, Hash)]
enum Owner {
    Caller(CallerKey),
    Network(IpAddr),
}

/// Why there is no room for another connection.
#[derive(Debug)]
pub(crate) enum Full {
    /// Many are about to close: there is room when one has done so.
    Closing,
    /// All that there are stay.
    Open,
}

impl Connections {
    /// Closes the one that has been there for the longest time, of those from the network that has the most.
    pub(crate) fn close_oldest(&self) {
        let there = self.0.there();
        let open = there.all.values();
        let open: Vec<_> = open.filter(|held| !held.is_closing()).collect();
        let from = |network| open.iter().filter(|held| held.network == network).count();
        let oldest = open
            .iter()
            .max_by_key(|held| (from(held.network), Reverse(held.number)));
        if let Some(oldest) = oldest {
            oldest.close();
        }
    }

    /// Closes those that have had no authenticated call, and no other for some seconds.
    pub(crate) fn close_unauthenticated(&self) {
        let mut there = self.0.there();
        let There { all, networks, .. } = &mut *there;
        for Network {
            unauthenticated, ..
        } in networks.values_mut()
        {
            unauthenticated.retain(|number| {
                let idle = all.get(number);
                let idle = idle.filter(|held| held.idle() >= AUTHENTICATION_TIMEOUT);
                if let Some(held) = idle {
                    self.0.close_unauthenticated(held);
                }
                idle.is_none()
            });
        }
    }
}

impl Shared {
    /// Makes room for another connection from a network. Where callers must be known, the oldest connection without an
    /// authenticated call is closed for it: of the same network if that has too many, else of the one that has the most
    /// of these.
    pub(super) fn make_room(&self, there: &mut There, network: IpAddr) -> Result<(), Full> {
        let limits = &self.limits;
        let from_there = there.networks.get(&network);
        let from_there = from_there.map_or(0, |network| network.connections as usize);
        let (count, limit, network) = if from_there >= limits.per_address as usize {
            (from_there, limits.per_address, Some(network))
        } else if there.all.len() >= limits.connections as usize {
            let networks = there.networks.iter();
            let most = networks.max_by_key(|(_, network)| network.unauthenticated.len());
            let most = most.map(|(network, _)| *network);
            (there.all.len(), limits.connections, most)
        } else {
            return Ok(());
        };
        if !limits.authentication {
            return Err(Full::Open);
        }
        if count >= limit as usize + CLOSING {
            return Err(Full::Closing);
        }
        let network = network.and_then(|network| there.networks.get_mut(&network));
        let oldest = network.and_then(|network| network.unauthenticated.pop_first());
        let oldest = oldest.and_then(|number| there.all.get(&number));
        let Some(oldest) = oldest else {
            return Err(Full::Open);
        };
        self.close_unauthenticated(oldest);
        Ok(())
    }

    fn close_unauthenticated(&self, held: &Held) {
        held.close();
        self.unauthenticated_closed.fetch_add(1, Ordering::Relaxed);
    }

    /// Closes connections until the others have no more in hand than they may. Those go first that have had no call
    /// that was let in; then those of the caller, or of the network if callers aren't known, that has the most in all;
    /// then those that have the most.
    pub(super) fn relieve(&self, budget: Budget) {
        let limit = self.limits.bytes(budget);
        let there = self.there();
        let open = there.all.values();
        let open = open.filter(|held| !held.is_closing());
        let mut open: Vec<_> = open.map(|held| (held.bytes(budget), held)).collect();
        let mut all: u64 = open.iter().map(|(bytes, _)| bytes).sum();
        if all <= limit {
            return;
        }
        let mut shares = HashMap::new();
        for (bytes, held) in &open {
            *shares.entry(owner(held)).or_insert(0) += bytes;
        }
        let key = |shares: &HashMap<Owner, u64>, (bytes, held): &(u64, &Arc<Held>)| {
            let share = shares.get(&owner(held)).copied();
            (!held.is_admitted(), share.unwrap_or_default(), *bytes)
        };
        open.retain(|(bytes, _)| *bytes > 0);
        while all > limit {
            let indices = 0..open.len();
            let Some(most) = indices.max_by_key(|index| key(&shares, &open[*index])) else {
                return;
            };
            let (bytes, held) = open.swap_remove(most);
            all -= bytes;
            if let Some(share) = shares.get_mut(&owner(held)) {
                *share -= bytes;
            }
            held.close();
            self.closed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                bytes,
                address = %held.network,
                "a connection is closed: the memory of messages is used up, and its caller or address has the largest \
                 part of it"
            );
        }
    }
}

fn owner(held: &Held) -> Owner {
    match held.caller.get() {
        Some(caller) => Owner::Caller(*caller),
        None => Owner::Network(held.network),
    }
}
