//! Rules, and the decision that they come to. Pure: what the contract says of access is all in here.

mod prepared;

use sea_orm::{DeriveActiveEnum, DeriveValueType, EnumIter};

use super::{GroupRef, RoleRef, UserStatus};

pub use prepared::{Asked, Rules};

/// The longest bundle or controller, in characters.
pub const MAX_BUNDLE: usize = 60;
/// The longest action, in characters.
pub const MAX_ACTION: usize = 45;

const ANY: &str = "*";

/// What a rule does with the questions that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
pub enum Effect {
    /// The user may.
    Allow = 1,
    /// The user may not, whatever other rules allow.
    Deny = 2,
}

/// A part of a rule: a literal, or `*`, which matches anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash, DeriveValueType)]
pub struct Pattern(String);

impl Pattern {
    /// Checks a part of a rule, of at most `max` characters.
    ///
    /// # Errors
    /// What is wrong with the text, for the caller.
    pub fn parse(text: &str, max: usize) -> Result<Self, String> {
        if text == ANY {
            return Ok(Self(text.to_owned()));
        }
        Literal::parse(text.to_owned(), max).map(|Literal(text)| Self(text))
    }

    /// The literal, or `*`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The literal, or `*`.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }

    fn matches(&self, asked: &Literal) -> bool {
        self.0 == ANY || self.0 == asked.0
    }
}

impl Ord for Pattern {
    /// Literals in their order, then `*`: what names more comes first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0 == ANY, &self.0).cmp(&(other.0 == ANY, &other.0))
    }
}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A part of a question: lower-case letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Literal(String);

impl Literal {
    /// Checks a part of a question, of at most `max` characters.
    ///
    /// # Errors
    /// What is wrong with the text, for the caller.
    pub fn parse(text: String, max: usize) -> Result<Self, String> {
        let allowed = |b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
        if text.is_empty() {
            return Err("must not be empty".to_owned());
        }
        if !text.bytes().all(allowed) {
            return Err("must be of lower-case letters, digits, `-`, `_` and `.`".to_owned());
        }
        if text.len() > max {
            return Err(format!(
                "must be at most {max} characters, not {}",
                text.len()
            ));
        }
        Ok(Self(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What may be done, or may not be. In order of bundle, controller, action and effect.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// The bundle.
    pub bundle: Pattern,
    /// The controller.
    pub controller: Pattern,
    /// The action.
    pub action: Pattern,
    /// Whether it allows or denies.
    pub effect: Effect,
}

impl Rule {
    fn matches(&self, question: &Question) -> bool {
        self.bundle.matches(&question.bundle)
            && self.controller.matches(&question.controller)
            && self.action.matches(&question.action)
    }
}

/// What a user wants to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Question {
    /// The bundle.
    pub bundle: Literal,
    /// The controller.
    pub controller: Literal,
    /// The action.
    pub action: Literal,
}

/// What decides comes first: DENY, then what names the most.
fn deciding(rule: &Rule) -> (bool, &Rule) {
    (rule.effect != Effect::Deny, rule)
}

/// A rule that a user has, from a role, from a group.
#[derive(Clone, Copy, Debug)]
pub struct Grant<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// The role that has the rule.
    pub role: &'a RoleRef,
    /// The group of the user that has the role.
    pub group: &'a GroupRef,
}

/// The rule that decided, with its role and the group that gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deciding {
    /// The rule.
    pub rule: Rule,
    /// The role that has the rule.
    pub role: RoleRef,
    /// The group of the user that has the role.
    pub group: GroupRef,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Allowed by this rule; none denies it.
    Allowed(Deciding),
    /// Denied by this rule.
    Denied(Deciding),
    /// Denied, because no rule matches.
    NoRule,
    /// Denied, because the user is blocked.
    Blocked,
    /// Denied, because there is no such user.
    Unknown,
}

/// Decides: may a user of this status (none: there is no such user), who has these grants, do this?
///
/// A matching DENY decides, else a matching ALLOW. Of several it is the one that names the most, literals
/// before `*`, then the one of the least role id and the least group id: the order of `grants` doesn't matter.
pub fn decide<'a>(
    user: Option<UserStatus>,
    grants: impl Iterator<Item = Grant<'a>>,
    question: &Question,
) -> Verdict {
    match user {
        None => return Verdict::Unknown,
        Some(UserStatus::Blocked) => return Verdict::Blocked,
        Some(UserStatus::Active) => {}
    }
    let decides = grants
        .filter(|grant| grant.rule.matches(question))
        .min_by_key(|Grant { rule, role, group }| (deciding(rule), role.id, group.id));
    let Some(Grant { rule, role, group }) = decides else {
        return Verdict::NoRule;
    };
    let decides = Deciding {
        rule: rule.clone(),
        role: role.clone(),
        group: group.clone(),
    };
    match rule.effect {
        Effect::Deny => Verdict::Denied(decides),
        Effect::Allow => Verdict::Allowed(decides),
    }
}
