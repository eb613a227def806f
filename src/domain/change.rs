//! What changes, and in which order.

mod deleted;
mod kind;
mod log;

use sea_orm::DeriveValueType;

use super::{Caller, GroupId, Name, Note, RequestId, RoleId, Rule, Timestamp, UserId, Words};

pub use deleted::{Deleted, DeletedDetails};
pub use kind::{ChangeKind, KindNumber};
pub use log::ChangeLog;

/// A number that a committed write has: without gaps, in the order of the commits, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, DeriveValueType)]
pub struct Revision(i64);

impl Revision {
    /// Before any write.
    pub const NONE: Self = Self(0);

    /// Checks a number that a caller sent.
    ///
    /// # Errors
    /// What is wrong with it, for the caller.
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

    /// The revision that is so many behind this one.
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

/// One thing that happened, with the names that things had when it was complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What kind of thing.
    pub kind: KindNumber,
    /// The group that is concerned.
    pub group: Option<(GroupId, Name)>,
    /// The role that is concerned.
    pub role: Option<(RoleId, Name)>,
    /// The user who is concerned.
    pub user: Option<(UserId, Name)>,
    /// What it was before.
    pub before: Option<Value>,
    /// What it was after.
    pub after: Option<Value>,
    /// What was deleted, if something was.
    pub deleted: Option<Deleted>,
}

impl Change {
    /// Something that happened to a group.
    #[must_use]
    pub fn of_group(kind: ChangeKind, id: GroupId, title: &Name) -> Self {
        Self {
            group: Some((id, title.clone())),
            ..Self::new(kind)
        }
    }

    /// Something that happened to a role.
    #[must_use]
    pub fn of_role(kind: ChangeKind, id: RoleId, name: &Name) -> Self {
        Self {
            role: Some((id, name.clone())),
            ..Self::new(kind)
        }
    }

    /// Something that happened to a user.
    #[must_use]
    pub fn of_user(kind: ChangeKind, id: UserId, username: &Name) -> Self {
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

    /// With the role that is concerned, too.
    #[must_use]
    pub fn with_role(self, id: RoleId, name: &Name) -> Self {
        Self {
            role: Some((id, name.clone())),
            ..self
        }
    }

    /// With the user who is concerned, too.
    #[must_use]
    pub fn with_user(self, id: UserId, username: &Name) -> Self {
        Self {
            user: Some((id, username.clone())),
            ..self
        }
    }

    /// From what it was.
    #[must_use]
    pub fn from(self, before: Value) -> Self {
        Self {
            before: Some(before),
            ..self
        }
    }

    /// To what it is.
    #[must_use]
    pub fn to(self, after: Value) -> Self {
        Self {
            after: Some(after),
            ..self
        }
    }

    /// What is lost with what was deleted, beside its name and what other changes of the deletion tell.
    #[must_use]
    pub fn with_deleted(self, deleted: Deleted) -> Self {
        Self {
            deleted: Some(deleted),
            ..self
        }
    }
}

/// What a change is from, or to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A title, role name or username.
    Name(Name),
    /// A description.
    Description(Note),
    /// A rule.
    Rule(Rule),
    /// A first and a last name.
    PersonName(Words, Words),
    /// As it is stored: its form is that of another version.
    Raw(String),
}

/// Who does something, as the caller says: at most 255 characters.
#[derive(Clone, Debug, Default, PartialEq, Eq, DeriveValueType)]
pub struct Actor(String);

impl Actor {
    /// Checks the name of an actor; an empty one is nobody's.
    ///
    /// # Errors
    /// What is wrong with it, for the caller.
    pub fn parse(text: &str) -> Result<Self, String> {
        Words::parse(text).map(|words| Self(words.into_string()))
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

/// Which changes are wanted: those for which all that is given holds.
#[derive(Clone, Debug, Default)]
pub struct ChangeFilter {
    /// Of this group.
    pub group: Option<GroupId>,
    /// Of this role.
    pub role: Option<RoleId>,
    /// Of this user.
    pub user: Option<UserId>,
    /// By this actor.
    pub actor: Option<Actor>,
    /// Of these kinds; of all if there are none.
    pub kinds: Vec<ChangeKind>,
    /// At this time or later.
    pub start: Option<Timestamp>,
    /// Before this time.
    pub end: Option<Timestamp>,
}

impl ChangeFilter {
    /// Whether a change is wanted.
    #[must_use]
    pub fn matches(&self, recorded: &Recorded) -> bool {
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

/// A change as it stands in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The revision that it belongs to.
    pub revision: Revision,
    /// Its place in the revision, from 0.
    pub index: i32,
    /// When it happened.
    pub time: Timestamp,
    /// Who did it.
    pub actor: Actor,
    /// The request that did it, if it had an id.
    pub request_id: Option<RequestId>,
    /// What happened.
    pub change: Change,
}
