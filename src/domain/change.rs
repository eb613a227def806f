//! Changes of the directory, and their order.

mod deleted;
mod kind;
mod log;

use sea_orm::DeriveValueType;

use super::{
    Caller, Description, GroupId, Name, PersonName, RequestId, RoleId, Rule, Timestamp, UserId,
};

pub use deleted::{DeletedResource, DeletedResourceDetails};
pub use kind::{ChangeKind, KindNumber};
pub use log::ChangeLog;

/// The number of a committed write: consecutive, in commit order, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, DeriveValueType)]
pub struct Revision(i64);

impl Revision {
    /// The revision before any write.
    pub const NONE: Self = Self(0);

    /// Checks a number sent by a caller.
    ///
    /// # Errors
    /// What is wrong with the value, for the caller.
    pub fn parse(number: i64) -> Result<Self, String> {
        if number < 0 {
            return Err("must not be negative".to_owned());
        }
        Ok(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn number(self) -> i64 {
        self.0
    }

    /// The revision after this one.
    #[must_use]
    pub fn next(self) -> Self {
        self.plus(1)
    }

    /// The revision `revisions` after this one.
    #[must_use]
    pub fn plus(self, revisions: i64) -> Self {
        Self(self.0.saturating_add(revisions))
    }

    /// The revision before this one.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// A change, with the names that its resources had once it was complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The kind of change.
    pub kind: KindNumber,
    /// The changed group.
    pub group: Option<(GroupId, Name)>,
    /// The changed role.
    pub role: Option<(RoleId, Name)>,
    /// The changed user.
    pub user: Option<(UserId, Name)>,
    /// The value before the change.
    pub before: Option<Value>,
    /// The value after the change.
    pub after: Option<Value>,
    /// The last state of a deleted resource.
    pub deleted: Option<DeletedResource>,
}

impl Change {
    /// A change of a group.
    #[must_use]
    pub fn for_group(kind: ChangeKind, id: GroupId, title: &Name) -> Self {
        Self {
            group: Some((id, title.clone())),
            ..Self::new(kind)
        }
    }

    /// A change of a role.
    #[must_use]
    pub fn for_role(kind: ChangeKind, id: RoleId, name: &Name) -> Self {
        Self {
            role: Some((id, name.clone())),
            ..Self::new(kind)
        }
    }

    /// A change of a user.
    #[must_use]
    pub fn for_user(kind: ChangeKind, id: UserId, username: &Name) -> Self {
        Self {
            user: Some((id, username.clone())),
            ..Self::new(kind)
        }
    }

    fn new(kind: ChangeKind) -> Self {
        Self {
            kind: kind.into(),
            group: None,
            role: None,
            user: None,
            before: None,
            after: None,
            deleted: None,
        }
    }

    /// Adds the role involved.
    #[must_use]
    pub fn with_role(self, id: RoleId, name: &Name) -> Self {
        Self {
            role: Some((id, name.clone())),
            ..self
        }
    }

    /// Adds the user involved.
    #[must_use]
    pub fn with_user(self, id: UserId, username: &Name) -> Self {
        Self {
            user: Some((id, username.clone())),
            ..self
        }
    }

    /// Adds the value before the change.
    #[must_use]
    pub fn with_before(self, before: Value) -> Self {
        Self {
            before: Some(before),
            ..self
        }
    }

    /// Adds the value after the change.
    #[must_use]
    pub fn with_after(self, after: Value) -> Self {
        Self {
            after: Some(after),
            ..self
        }
    }

    /// Adds the deleted resource's last state, apart from its name and from what other changes of the deletion record.
    #[must_use]
    pub fn with_deleted(self, deleted: DeletedResource) -> Self {
        Self {
            deleted: Some(deleted),
            ..self
        }
    }
}

/// A value before or after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A title, role name or username.
    Name(Name),
    /// A description.
    Description(Description),
    /// A rule.
    Rule(Rule),
    /// A first and a last name.
    PersonName(PersonName, PersonName),
    /// A stored value in the format of another version.
    Raw(String),
}

/// Who makes a change, as stated by the caller: at most 255 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, DeriveValueType)]
pub struct Actor(String);

impl Actor {
    /// Checks the name of an actor; an empty name means unknown.
    ///
    /// # Errors
    /// What is wrong with the value, for the caller.
    pub fn parse(text: &str) -> Result<Self, String> {
        PersonName::parse(text).map(|words| Self(words.into_string()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Caller> for Actor {
    fn from(caller: &Caller) -> Self {
        Self(caller.as_str().to_owned())
    }
}

/// A filter of changes; a change matches if all given conditions hold.
#[derive(Clone, Debug, Default)]
pub struct ChangeFilter {
    /// Changes of this group.
    pub group: Option<GroupId>,
    /// Changes of this role.
    pub role: Option<RoleId>,
    /// Changes of this user.
    pub user: Option<UserId>,
    /// Changes by this actor.
    pub actor: Option<Actor>,
    /// Changes of these kinds; of all kinds if empty.
    pub kinds: Vec<ChangeKind>,
    /// Changes at this time or later.
    pub start: Option<Timestamp>,
    /// Changes before this time.
    pub end: Option<Timestamp>,
}

impl ChangeFilter {
    /// Whether a change matches the filter.
    #[must_use]
    pub fn matches(&self, recorded: &RecordedChange) -> bool {
        let Self {
            group,
            role,
            user,
            actor,
            kinds,
            start,
            end,
        } = self;
        let change = &recorded.change;
        let is = |wanted: bool, given: bool| !wanted || given;
        is(
            group.is_some(),
            change.group.as_ref().map(|(id, _)| *id) == *group,
        ) && is(
            role.is_some(),
            change.role.as_ref().map(|(id, _)| *id) == *role,
        ) && is(
            user.is_some(),
            change.user.as_ref().map(|(id, _)| *id) == *user,
        ) && actor.as_ref().is_none_or(|actor| *actor == recorded.actor)
            && (kinds.is_empty() || kinds.iter().any(|kind| change.kind == (*kind).into()))
            && start.is_none_or(|start| recorded.time >= start)
            && end.is_none_or(|end| recorded.time < end)
    }
}

/// A change as it is recorded in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedChange {
    /// The revision that it belongs to.
    pub revision: Revision,
    /// Its index within the revision, from 0.
    pub index: i32,
    /// The time of the change.
    pub time: Timestamp,
    /// Who made the change.
    pub actor: Actor,
    /// The id of the request that made the change, if it had one.
    pub request_id: Option<RequestId>,
    /// The change.
    pub change: Change,
}
