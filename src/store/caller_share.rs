//! Slots that calls wait in or hold, shared fairly between authenticated callers.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

tokio::task_local! {
    /// The caller of the current call.
    static CALLER: CallerKey;
}

/// Identifies a caller for counting: a digest of its name and kind of credential, or of the address of an
/// unauthenticated caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallerKey {
    digest: u64,
    known: bool,
}

/// Number of slots that each authenticated caller holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallerShares(Arc<Mutex<HashMap<CallerKey, usize>>>);

/// A slot, released when dropped.
#[derive(Debug)]
pub(crate) struct CallerShare(Option<(CallerShares, CallerKey)>);

impl CallerKey {
    /// The key of the authenticated caller with this name and kind of credential.
    #[must_use]
    pub fn from_identity(name: &str, credential: &str) -> Self {
        Self::digest((credential, name), true)
    }

    /// The key of unauthenticated callers from this address.
    #[must_use]
    pub fn of_address(address: IpAddr) -> Self {
        Self::digest(address, false)
    }

    fn digest(of: impl Hash, known: bool) -> Self {
        let mut hasher = DefaultHasher::new();
        of.hash(&mut hasher);
        let digest = hasher.finish();
        Self { digest, known }
    }

    /// The key of the current call's caller.
    pub(super) fn current() -> Option<Self> {
        CALLER.try_with(|caller| *caller).ok()
    }

    /// Runs a part of a call with this caller as the current one.
    pub(crate) fn scope<T>(self, part: impl FnOnce() -> T) -> T {
        CALLER.sync_scope(self, part)
    }
}

impl CallerShares {
    /// Takes one of `free` slots for the current caller; `None` if the caller already holds as many as are free. So a
    /// caller gets at most half of all slots, and one always remains for a caller that holds none. Unauthenticated
    /// callers share all slots without this limit.
    pub(crate) fn take(&self, free: usize) -> Option<CallerShare> {
        let Some(caller) = CallerKey::current().filter(|caller| caller.known) else {
            return Some(CallerShare(None));
        };
        let mut taken = self.taken();
        let count = taken.get(&caller).copied().unwrap_or_default();
        if count >= free {
            return None;
        }
        taken.insert(caller, count + 1);
        drop(taken);
        Some(CallerShare(Some((self.clone(), caller))))
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<CallerKey, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CallerShare {
    fn drop(&mut self) {
        if let Some((shares, caller)) = &self.0
            && let Entry::Occupied(mut count) = shares.taken().entry(*caller)
        {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}
