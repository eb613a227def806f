//! Finding what is of one state.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
};

use quick_cache::{
    DefaultHashBuilder,
    sync::{DefaultLifecycle, PlaceholderGuard},
};

use super::{Db, Entries, Entry, Kept, Key, Size};
use crate::{domain::Revision, error::Result};

/// Whoever has it reads the entry, and all others wait for that.
type Guard<'a> =
    PlaceholderGuard<'a, Key, Entry, Size, DefaultHashBuilder, DefaultLifecycle<Key, Entry>>;

/// A look at what is in memory, as of one revision.
pub struct Glance<'a> {
    db: &'a Db,
    entries: &'a Entries,
    epoch: u64,
    at: Revision,
    /// Whether something newer was found: looking again may help.
    moved: AtomicBool,
}

impl<'a> Glance<'a> {
    /// Looks, if there is anything to look at.
    pub(in crate::store) fn begin(db: &'a Db) -> Option<Self> {
        let cache = &db.cache;
        let entries = cache.entries.as_ref()?;
        Some(Self {
            db,
            entries,
            epoch: cache.epoch.load(Ordering::SeqCst),
            at: cache.applied(),
            moved: AtomicBool::new(false),
        })
    }

    /// The revision of all that is found.
    pub(in crate::store) fn revision(&self) -> Revision {
        self.at
    }

    /// Whether the database has lost nothing since.
    pub(in crate::store) fn holds(&self) -> bool {
        self.db.cache.epoch.load(Ordering::SeqCst) == self.epoch
    }

    /// Whether something newer was found.
    pub(in crate::store) fn moved(&self) -> bool {
        self.moved.load(Ordering::Relaxed)
    }

    /// One entry, from memory or read into it; nothing if it isn't there, or not as of this revision.
    pub(in crate::store) async fn one<K: Kept>(&self, id: K::Id) -> Result<Option<K>> {
        Ok(self.all(&[id]).await?.and_then(|mut found| found.pop()))
    }

    /// All of these, in this order; nothing if one of them isn't there, or not as of this revision.
    pub(in crate::store) async fn all<K: Kept>(&self, ids: &[K::Id]) -> Result<Option<Vec<K>>> {
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            match self
                .entries
                .get(&self.key::<K>(*id))
                .and_then(Self::of::<K>)
            {
                Some(entry) => found.push(entry),
                None => break,
            }
        }
        if found.len() < ids.len() && !Box::pin(self.find_rest(ids, &mut found)).await? {
            return Ok(None);
        }
        if found.iter().any(|entry| entry.since() > self.at) {
            self.moved.store(true, Ordering::Relaxed);
            return Ok(None);
        }
        Ok(Some(found))
    }

    /// Finds those that are behind the ones that were found, all missing ones in one statement; false if that
    /// can't be.
    async fn find_rest<K: Kept>(&self, ids: &[K::Id], found: &mut Vec<K>) -> Result<bool> {
        let rest = &ids[found.len()..];
        let mut there = BTreeMap::new();
        let mut guards: BTreeMap<K::Id, Guard<'_>> = BTreeMap::new();
        // Whoever waits for another does so in the order of the ids: nobody waits in a circle.
        for id in BTreeSet::from_iter(rest.iter().copied()) {
            let key = self.key::<K>(id);
            match self.entries.get_value_or_guard_async(&key).await {
                Ok(entry) => there.extend(Self::of(entry).map(|entry| (id, entry))),
                Err(guard) => drop(guards.insert(id, guard)),
            }
        }
        if !guards.is_empty() {
            let cache = &self.db.cache;
            // Whatever is applied from here on removes what it changes, read or not.
            let applied = cache.applied();
            let missing: Vec<_> = guards.keys().copied().collect();
            cache.counts.loads.fetch_add(1, Ordering::Relaxed);
            let load = K::load(self.db, &missing);
            for (id, entry) in self.db.health.while_there(load).await? {
                // A node may be behind what is known.
                if entry.since() < applied {
                    return Ok(false);
                }
                if let Some(guard) = guards.remove(&id) {
                    // Fails if it has been changed meanwhile: then it is right for now, but not kept.
                    let _ = guard.insert(entry.clone().into());
                }
                there.insert(id, entry);
            }
        }
        for id in rest {
            match there.get(id) {
                Some(entry) => found.push(entry.clone()),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn key<K: Kept>(&self, id: K::Id) -> Key {
        Key(self.epoch, K::KIND, id.into())
    }

    fn of<K: Kept>(entry: Entry) -> Option<K> {
        entry.try_into().ok()
    }
}
