//! What reads need most, in memory, and right for the revision that it is said to be of.
//!
//! An entry is right from the revision that it was read at, for as long as it is kept: whatever changes it
//! removes it, before the revision of that change is said to be [`Cache::applied`]. So entries that were found after
//! a look at `applied`, and are no newer than that, are all of one state: that of `applied`.

mod follow;
mod glance;
mod load;

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

pub use glance::Glance;
pub(super) use load::{Group, Role, RoleRules, User, UserCount};

/// What the bookkeeping of an entry takes, in bytes, about.
const OVERHEAD: usize = 96;
/// Of what size entries usually are.
const USUAL_SIZE: u64 = 256;

type Entries = quick_cache::sync::Cache<Key, Entry, Size>;

/// What is kept in memory.
#[derive(Debug)]
pub(super) struct Cache {
    /// None if nothing is to be kept.
    entries: Option<Entries>,
    /// Entries from before the database lost revisions have another one.
    epoch: AtomicU64,
    /// Every change up to this revision has removed what it changes.
    applied: AtomicI64,
    /// Held while changes are applied.
    applying: Mutex<()>,
    pub(super) counts: Counts,
}

/// What came of reads since the start, where something is kept in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheCounts {
    /// Reads that were answered from memory, some of it perhaps read into it for that.
    pub answered: u64,
    /// Reads that the database was asked for: what they name isn't there, or they want what is newer.
    pub passed_on: u64,
    /// How often something was read into memory.
    pub loads: u64,
    /// What is kept, in bytes, about.
    pub bytes: u64,
    /// How many revisions memory is behind what is known to be committed; 0 if nothing is kept.
    pub behind: i64,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) answered: AtomicU64,
    pub(super) passed_on: AtomicU64,
    pub(super) loads: AtomicU64,
}

/// What a change changes.
#[derive(Clone, Copy, Debug, FromQueryResult)]
pub(super) struct Touched {
    kind: KindNumber,
    group_id: Option<GroupId>,
    role_id: Option<RoleId>,
    user_id: Option<UserId>,
}

impl From<&Change> for Touched {
    fn from(change: &Change) -> Self {
        Self {
            kind: change.kind,
            group_id: change.group.as_ref().map(|(id, _)| *id),
            role_id: change.role.as_ref().map(|(id, _)| *id),
            user_id: change.user.as_ref().map(|(id, _)| *id),
        }
    }
}

/// What an entry is about, and of which epoch it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key(u64, Kind, Uuid);

/// What kinds of entries there are: each changes with as little as possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    /// Whether a user is blocked, and the groups.
    User,
    /// A group's row, and its roles.
    Group,
    /// How many users are in a group.
    UserCount,
    /// A role's row.
    Role,
    /// A role's name and rules.
    Rules,
}

/// What is kept of any kind.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    User(User),
    Group(Group),
    UserCount(UserCount),
    Role(Role),
    Rules(RoleRules),
}

/// A kind of entry.
pub(super) trait Kept: Clone + Send + Sync + Into<Entry> + TryFrom<Entry> {
    /// The id of what it is about.
    type Id: Copy + Ord + Into<Uuid> + Send + Sync;
    const KIND: Kind;

    /// The revision that it was read at.
    fn since(&self) -> Revision;

    /// Bytes, about, without the overhead.
    fn size(&self) -> usize;

    /// Reads those of these that are there, in one statement.
    fn load(
        db: &Db,
        ids: &[Self::Id],
    ) -> impl Future<Output = Result<Vec<(Self::Id, Self)>>> + Send;
}

#[derive(Clone, Copy, Debug)]
struct Size;

impl Weighter<Key, Entry> for Size {
    fn weight(&self, _: &Key, entry: &Entry) -> u64 {
        let size = match entry {
            Entry::User(user) => user.size(),
            Entry::Group(group) => group.size(),
            Entry::UserCount(count) => count.size(),
            Entry::Role(role) => role.size(),
            Entry::Rules(rules) => rules.size(),
        };
        (size + OVERHEAD) as u64
    }
}

impl Cache {
    /// Keeps at most so many bytes, about, of a directory at this revision.
    pub(super) fn new(bytes: u64, present: Revision) -> Self {
        let items = usize::try_from(bytes / USUAL_SIZE).unwrap_or(usize::MAX);
        Self {
            entries: (bytes > 0).then(|| Entries::with_weighter(items.max(16), bytes, Size)),
            epoch: AtomicU64::new(0),
            applied: AtomicI64::new(present.number()),
            applying: Mutex::new(()),
            counts: Counts::default(),
        }
    }

    /// Every change up to this revision has removed what it changes.
    pub(super) fn applied(&self) -> Revision {
        Revision::parse(self.applied.load(Ordering::SeqCst)).unwrap_or_default()
    }

    pub(super) fn counts(&self, known: Revision) -> CacheCounts {
        let Counts {
            answered,
            passed_on,
            loads,
        } = &self.counts;
        CacheCounts {
            answered: answered.load(Ordering::Relaxed),
            passed_on: passed_on.load(Ordering::Relaxed),
            loads: loads.load(Ordering::Relaxed),
            bytes: self.entries.as_ref().map_or(0, Entries::weight),
            behind: if self.is_on() {
                known.number() - self.applied().number()
            } else {
                0
            },
        }
    }

    /// Whether anything is kept at all.
    pub(super) fn is_on(&self) -> bool {
        self.entries.is_some()
    }

    /// Removes what the changes of a revision change, which was committed here. What is known to be applied moves
    /// on only if nothing between is unknown.
    pub(super) fn apply(&self, revision: Revision, changes: &[Touched]) {
        let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        changes.iter().for_each(|change| self.remove(change));
        if self.applied() == revision.previous() {
            self.applied.store(revision.number(), Ordering::SeqCst);
        }
    }

    /// Forgets everything: what was known up to `present` is all that is true now.
    pub(super) fn reset(&self, present: Revision) {
        let _applying = self.applying.lock().unwrap_or_else(PoisonError::into_inner);
        self.begin_anew(present);
    }

    /// The same, by whoever applies changes.
    fn begin_anew(&self, present: Revision) {
        // First, so that whoever looks at `applied` next can't find what was before.
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.applied.store(present.number(), Ordering::SeqCst);
        if let Some(entries) = &self.entries {
            entries.clear();
        }
    }

    /// Removes whatever a change changes.
    fn remove(&self, change: &Touched) {
        use ChangeKind as C;
        let Some(entries) = &self.entries else { return };
        // None is written here; those of other instances are seen before they come here.
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
                remove(Kind::User, user);
                remove(Kind::UserCount, group);
            }
            C::RoleAssigned | C::RoleRemoved => {
                remove(Kind::Group, group);
                remove(Kind::Role, role);
            }
            C::GroupCreated | C::GroupRenamed | C::GroupDeleted => {
                remove(Kind::Group, group);
                remove(Kind::UserCount, group);
            }
            C::RoleCreated
            | C::RoleRenamed
            | C::RoleDescribed
            | C::RoleDeleted
            | C::RuleAdded
            | C::RuleRemoved => {
                remove(Kind::Role, role);
                remove(Kind::Rules, role);
            }
            C::UserCreated
            | C::UserRenamed
            | C::UserNamed
            | C::UserBlocked
            | C::UserUnblocked
            | C::UserDeleted => remove(Kind::User, user),
        }
    }
}
