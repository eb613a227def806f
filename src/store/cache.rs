//! An in-memory cache of what reads need most, each snapshot of which reflects exactly one revision.
//!
//! An entry is valid from the revision at which it was read, for as long as it is cached: a change removes the entries
//! that it affects before its revision counts as [`Cache::applied`]. So entries that were found after `applied` was
//! loaded, and were read at no later revision than that, all belong to one state: that of `applied`.

mod load;
mod snapshot;
mod sync;

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use quick_cache::Weighter;
use sea_orm::{FromQueryResult, prelude::Uuid};

use super::Db;
use crate::{
    domain::{Change, ChangeKind, GroupId, KindNumber, Revision, RoleId, UserId},
    error::Result,
};

pub(super) use load::{Group, Role, RoleRules, User, UserCount};
pub use snapshot::CacheSnapshot;

/// Approximate overhead of an entry, in bytes.
const ENTRY_OVERHEAD: usize = 96;
/// Typical size of an entry, in bytes.
const ESTIMATED_ENTRY_SIZE: u64 = 256;

type Entries = quick_cache::sync::Cache<Key, Entry, EntryWeighter>;

/// Entries by key, and the revision up to which changes have invalidated them.
#[derive(Debug)]
pub(super) struct Cache {
    /// `None` if the cache is disabled.
    entries: Option<Entries>,
    /// A part of each key, incremented when the cache is cleared: entries from before have another one.
    epoch: AtomicU64,
    /// Every change up to this revision has removed the entries that it affects.
    applied: AtomicI64,
    /// Held while changes are applied.
    applying: Mutex<()>,
    pub(super) counts: Counts,
}

/// Counters of the cache since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheCounts {
    /// Cache hits: reads answered from the cache, including those that loaded missing entries into it first.
    pub hits: u64,
    /// Cache misses: cacheable reads that went to the database, because what they name doesn't exist or the cache was
    /// too old for them.
    pub misses: u64,
    /// Cache loads: statements that read missing entries.
    pub loads: u64,
    /// Approximate size of the entries, in bytes.
    pub bytes: u64,
    /// How many revisions the cache is behind the latest that is known to be committed; 0 if the cache is disabled.
    pub lag: i64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    pub(super) loads: AtomicU64,
}

/// What a change affects: the entries of its group, role and user, depending on its kind.
#[derive(Clone, Copy, Debug, FromQueryResult)]
pub(super) struct Invalidation {
    kind: KindNumber,
    group_id: Option<GroupId>,
    role_id: Option<RoleId>,
    user_id: Option<UserId>,
}

impl From<&Change> for Invalidation {
    fn from(change: &Change) -> Self {
        Self {
            kind: change.kind,
            group_id: change.group.as_ref().map(|(id, _)| *id),
            role_id: change.role.as_ref().map(|(id, _)| *id),
            user_id: change.user.as_ref().map(|(id, _)| *id),
        }
    }
}

/// The key of an entry: its epoch, its kind, and the id of what it describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key(u64, EntryKind, Uuid);

/// The kinds of entries, cut so that few changes affect each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum EntryKind {
    /// A user's status and groups.
    User,
    /// A group's row without its user count, and its roles.
    Group,
    /// How many users are in a group.
    UserCount,
    /// A role's row.
    Role,
    /// A role's name and rules.
    Rules,
}

/// An entry of any kind.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    User(User),
    Group(Group),
    UserCount(UserCount),
    Role(Role),
    Rules(RoleRules),
}

/// A kind of entry, and how it is loaded.
pub(super) trait CacheRecord: Clone + Send + Sync + Into<Entry> + TryFrom<Entry> {
    /// The id of what the entry describes.
    type Id: Copy + Ord + Into<Uuid> + Send + Sync;
    const KIND: EntryKind;

    /// The revision at which the entry was read.
    fn read_at(&self) -> Revision;

    /// Approximate size in bytes, without [`ENTRY_OVERHEAD`].
    fn size(&self) -> usize;

    /// Reads those of `ids` that exist, in one statement.
    fn load(
        db: &Db,
        ids: &[Self::Id],
    ) -> impl Future<Output = Result<Vec<(Self::Id, Self)>>> + Send;
}

#[derive(Clone, Copy, Debug)]
struct EntryWeighter;

impl Weighter<Key, Entry> for EntryWeighter {
    fn weight(&self, _: &Key, entry: &Entry) -> u64 {
        let size = match entry {
            Entry::User(user) => user.size(),
            Entry::Group(group) => group.size(),
            Entry::UserCount(count) => count.size(),
            Entry::Role(role) => role.size(),
            Entry::Rules(rules) => rules.size(),
        };
        (size + ENTRY_OVERHEAD) as u64
    }
}

impl Cache {
    /// A cache of at most about `bytes` bytes, for a directory at revision `present`; disabled if `bytes` is 0.
    pub(super) fn new(bytes: u64, present: Revision) -> Self {
        let items = usize::try_from(bytes / ESTIMATED_ENTRY_SIZE).unwrap_or(usize::MAX);
        Self {
            entries: (bytes > 0)
                .then(|| Entries::with_weighter(items.max(16), bytes, EntryWeighter)),
            epoch: AtomicU64::new(0),
            applied: AtomicI64::new(present.number()),
            applying: Mutex::new(()),
            counts: Counts::default(),
        }
    }

    /// Every change up to this revision has removed the entries that it affects.
    pub(super) fn applied_revision(&self) -> Revision {
        Revision::parse(self.applied.load(Ordering::SeqCst)).unwrap_or_default()
    }

    pub(super) fn counts(&self, known: Revision) -> CacheCounts {
        let Counts {
            hits,
            misses,
            loads,
        } = &self.counts;
        CacheCounts {
            hits: hits.load(Ordering::Relaxed),
            misses: misses.load(Ordering::Relaxed),
            loads: loads.load(Ordering::Relaxed),
            bytes: self.entries.as_ref().map_or(0, Entries::weight),
            lag: if self.is_enabled() {
                known.number() - self.applied_revision().number()
            } else {
                0
            },
        }
    }

    /// Whether the cache may hold entries.
    pub(super) fn is_enabled(&self) -> bool {
        self.entries.is_some()
    }

    /// Removes the entries that the changes of a revision affect, which this instance has committed. `applied`
    /// advances only if the changes of every earlier revision have been applied, too.
    pub(super) fn invalidate(&self, revision: Revision, changes: &[Invalidation]) {
        let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        changes.iter().for_each(|change| self.remove(change));
        if self.applied_revision() == revision.previous() {
            self.applied.store(revision.number(), Ordering::SeqCst);
        }
    }

    /// Clears the cache, because the database has lost every revision after `present`.
    pub(super) fn reset(&self, present: Revision) {
        let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        self.clear_at(present);
    }

    /// Clears the cache and sets `applied`. The caller holds `applying`.
    fn clear_at(&self, present: Revision) {
        // Before `applied`, so that a snapshot opened after that has changed can't find earlier entries.
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.applied.store(present.number(), Ordering::SeqCst);
        if let Some(entries) = &self.entries {
            entries.clear();
        }
    }

    /// Removes the entries that a change affects.
    fn remove(&self, change: &Invalidation) {
        use ChangeKind as C;
        let Some(entries) = &self.entries else { return };
        // This instance writes no unknown kinds, and clears the cache when another instance has (see `catch_up`).
        let Some(kind) = change.kind.known() else {
            return;
        };
        let epoch = self.epoch.load(Ordering::SeqCst);
        let remove = |kind, id: Option<Uuid>| {
            if let Some(id) = id {
                entries.remove(&Key(epoch, kind, id));
            }
        };
        let group = change.group_id.map(GroupId::uuid);
        let role = change.role_id.map(RoleId::uuid);
        let user = change.user_id.map(UserId::uuid);
        match kind {
            C::UserAssigned | C::UserUnassigned => {
                remove(EntryKind::User, user);
                remove(EntryKind::UserCount, group);
            }
            C::RoleAssigned | C::RoleRemoved => {
                remove(EntryKind::Group, group);
                remove(EntryKind::Role, role);
            }
            C::GroupCreated | C::GroupRenamed | C::GroupDeleted => {
                remove(EntryKind::Group, group);
                remove(EntryKind::UserCount, group);
            }
            C::RoleCreated
            | C::RoleRenamed
            | C::RoleDescribed
            | C::RoleDeleted
            | C::RuleAdded
            | C::RuleRemoved => {
                remove(EntryKind::Role, role);
                remove(EntryKind::Rules, role);
            }
            C::UserCreated
            | C::UserRenamed
            | C::UserNamed
            | C::UserBlocked
            | C::UserUnblocked
            | C::UserDeleted => remove(EntryKind::User, user),
        }
    }
}
