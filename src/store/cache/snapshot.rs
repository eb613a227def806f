//! Reading entries of one state from the cache.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
};

use quick_cache::{
    DefaultHashBuilder,
    sync::{DefaultLifecycle, PlaceholderGuard},
};

use super::{CacheRecord, Db, Entries, Entry, EntryWeighter, Key};
use crate::{domain::Revision, error::Result};

/// The holder loads the entry, and all other reads of that entry wait for it.
type LoadGuard<'a> = PlaceholderGuard<
    'a,
    Key,
    Entry,
    EntryWeighter,
    DefaultHashBuilder,
    DefaultLifecycle<Key, Entry>,
>;

/// The state of the cache as of one revision.
pub struct CacheSnapshot<'a> {
    db: &'a Db,
    entries: &'a Entries,
    epoch: u64,
    revision: Revision,
    /// Whether an entry was found that was read at a later revision: a new snapshot may succeed.
    found_newer: AtomicBool,
}

impl<'a> CacheSnapshot<'a> {
    /// Opens a snapshot of the revision that is applied now; `None` if the cache is disabled.
    pub(in crate::store) fn open(db: &'a Db) -> Option<Self> {
        let cache = &db.cache;
        let entries = cache.entries.as_ref()?;
        Some(Self {
            db,
            entries,
            epoch: cache.epoch.load(Ordering::SeqCst),
            revision: cache.applied_revision(),
            found_newer: AtomicBool::new(false),
        })
    }

    /// The revision of all entries that it returns.
    pub(in crate::store) fn revision(&self) -> Revision {
        self.revision
    }

    /// Whether the cache hasn't been cleared since the snapshot was opened.
    pub(in crate::store) fn is_valid(&self) -> bool {
        self.db.cache.epoch.load(Ordering::SeqCst) == self.epoch
    }

    /// Whether an entry was found that was read at a later revision.
    pub(in crate::store) fn found_newer(&self) -> bool {
        self.found_newer.load(Ordering::Relaxed)
    }

    /// One entry, from the cache or loaded into it; `None` if it doesn't exist, or not as of this revision.
    pub(in crate::store) async fn get<K: CacheRecord>(&self, id: K::Id) -> Result<Option<K>> {
        Ok(self.get_all(&[id]).await?.and_then(|mut found| found.pop()))
    }

    /// The entries of `ids`, in this order; `None` if one of them doesn't exist, or not as of this revision.
    pub(in crate::store) async fn get_all<K: CacheRecord>(
        &self,
        ids: &[K::Id],
    ) -> Result<Option<Vec<K>>> {
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            match self
                .entries
                .get(&self.key::<K>(*id))
                .and_then(Self::downcast::<K>)
            {
                Some(entry) => found.push(entry),
                None => break,
            }
        }
        if found.len() < ids.len() && !Box::pin(self.load_missing(ids, &mut found)).await? {
            return Ok(None);
        }
        if found.iter().any(|entry| entry.read_at() > self.revision) {
            self.found_newer.store(true, Ordering::Relaxed);
            return Ok(None);
        }
        Ok(Some(found))
    }

    /// Appends the entries of the remaining `ids` to `found`, and loads all missing ones in one statement. False if one
    /// of them doesn't exist or the server that is read is behind.
    async fn load_missing<K: CacheRecord>(
        &self,
        ids: &[K::Id],
        found: &mut Vec<K>,
    ) -> Result<bool> {
        let rest = &ids[found.len()..];
        let mut loaded = BTreeMap::new();
        let mut guards: BTreeMap<K::Id, LoadGuard<'_>> = BTreeMap::new();
        // In the order of the ids, so that reads that wait for each other's loads can't deadlock.
        for id in BTreeSet::from_iter(rest.iter().copied()) {
            let key = self.key::<K>(id);
            match self.entries.get_value_or_guard_async(&key).await {
                Ok(entry) => loaded.extend(Self::downcast(entry).map(|entry| (id, entry))),
                Err(guard) => drop(guards.insert(id, guard)),
            }
        }
        if !guards.is_empty() {
            let cache = &self.db.cache;
            // Changes applied from here on remove the entries that they affect, including those being loaded.
            let applied = cache.applied_revision();
            let missing: Vec<_> = guards.keys().copied().collect();
            cache.counts.loads.fetch_add(1, Ordering::Relaxed);
            let load = K::load(self.db, &missing);
            for (id, entry) in self.db.health.while_reachable(load).await? {
                // A node of a cluster may be behind the others.
                if entry.read_at() < applied {
                    return Ok(false);
                }
                if let Some(guard) = guards.remove(&id) {
                    // Fails if a change has removed the entry meanwhile: it is valid for this read, but not cached.
                    let _ = guard.insert(entry.clone().into());
                }
                loaded.insert(id, entry);
            }
        }
        for id in rest {
            match loaded.get(id) {
                Some(entry) => found.push(entry.clone()),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    fn key<K: CacheRecord>(&self, id: K::Id) -> Key {
        Key(self.epoch, K::KIND, id.into())
    }

    fn downcast<K: CacheRecord>(entry: Entry) -> Option<K> {
        entry.try_into().ok()
    }
}
