//! Places that calls wait in or hold, of which each known caller has a share.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

tokio::task_local! {
    /// The caller of the call that is being carried out.
    static CALLER: CallerKey;
}

/// What a caller's places are counted by: a digest of its name and of what it is known by, or of the address of one who
/// isn't known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallerKey {
    digest: u64,
    known: bool,
}

/// How many places each known caller has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares(Arc<Mutex<HashMap<CallerKey, usize>>>);

/// A place, until this is dropped.
#[derive(Debug)]
pub(crate) struct Share(Option<(Shares, CallerKey)>);

impl CallerKey {
    /// That of the caller of this name, who is known by a credential of this kind.
    #[must_use]
    pub fn of(name: &str, credential: &str) -> Self {
        Self::digest((credential, name), true)
    }

    /// That of callers from this address who aren't known.
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

    /// That of the call that is being carried out.
    pub(super) fn present() -> Option<Self> {
        CALLER.try_with(|caller| *caller).ok()
    }

    /// Carries out a part of a call of this caller.
    pub(crate) fn scope<T>(self, part: impl FnOnce() -> T) -> T {
        CALLER.sync_scope(self, part)
    }
}

impl Shares {
    /// Takes one of `free` places for the caller of the present call; nothing if the caller has as many already as it
    /// leaves free. One caller gets half of all places at most, and there is always one left for another who has none.
    /// Where callers aren't known, they share all places.
    pub(crate) fn take(&self, free: usize) -> Option<Share> {
        let Some(caller) = CallerKey::present().filter(|caller| caller.known) else {
            return Some(Share(None));
        };
        let mut taken = self.taken();
        let count = taken.get(&caller).copied().unwrap_or_default();
        if count >= free {
            return None;
        }
        taken.insert(caller, count + 1);
        drop(taken);
        Some(Share(Some((self.clone(), caller))))
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<CallerKey, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
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
