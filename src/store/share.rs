//! Places that calls wait in or hold, of which each known caller has a share.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

tokio::task_local! {
    /// The caller of the call that is being carried out.
    static CALLER: CallerKey;
}

/// What a known caller's places are counted by: a digest of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallerKey(u64);

/// How many places each known caller has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shares(Arc<Mutex<HashMap<CallerKey, usize>>>);

/// A place, until this is dropped.
#[derive(Debug)]
pub(crate) struct Share(Option<(Shares, CallerKey)>);

impl CallerKey {
    /// That of the caller of this name.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        Self(hasher.finish())
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
        let Ok(caller) = CALLER.try_with(|caller| *caller) else {
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
