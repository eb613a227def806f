//! Rules and access decisions. Pure: implements everything that the API promises about access decisions.

mod index;

use sea_orm::{DeriveActiveEnum, DeriveValueType, EnumIter};

use super::{GroupRef, RoleRef, UserStatus};

pub use index::{PreparedRequest, RuleIndex};

/// The longest bundle or controller, in characters.
pub const MAX_BUNDLE: usize = 60;
/// The longest action, in characters.
pub const MAX_ACTION: usize = 45;

const WILDCARD: &str = "*";

/// The effect of a rule on the access requests that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "i16", db_type = "SmallInteger")]
pub enum Effect {
    /// Allows access.
    Allow = 1,
    /// Denies access, whatever other rules allow.
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
        if text == WILDCARD {
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
        self.0 == WILDCARD || self.0 == asked.0
    }
}

impl Ord for Pattern {
    /// Literals in their order, then `*`: more specific patterns come first.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0 == WILDCARD, &self.0).cmp(&(other.0 == WILDCARD, &other.0))
    }
}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// A part of an access request: lower-case letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Literal(String);

impl Literal {
    /// Checks a part of an access request, of at most `max` characters.
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

/// A rule of a role. Ordered by bundle, controller, action and effect.
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
    fn matches(&self, question: &AccessRequest) -> bool {
        self.bundle.matches(&question.bundle)
            && self.controller.matches(&question.controller)
            && self.action.matches(&question.action)
    }
}

/// An access request: the action that a user wants to perform.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessRequest {
    /// The bundle.
    pub bundle: Literal,
    /// The controller.
    pub controller: Literal,
    /// The action.
    pub action: Literal,
}

/// Sort key by which the deciding rule comes first: DENY, then the most specific rule.
fn precedence(rule: &Rule) -> (bool, &Rule) {
    (rule.effect != Effect::Deny, rule)
}

/// A rule that applies to a user through a role of a group.
#[derive(Clone, Copy, Debug)]
pub struct EffectiveRule<'a> {
    /// The rule.
    pub rule: &'a Rule,
    /// The role that has the rule.
    pub role: &'a RoleRef,
    /// The group of the user that has the role.
    pub group: &'a GroupRef,
}

/// The rule that decided, with its role and the group that assigns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecidingRule {
    /// The rule.
    pub rule: Rule,
    /// The role that has the rule.
    pub role: RoleRef,
    /// The group of the user that has the role.
    pub group: GroupRef,
}

/// The decision on an access request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Allowed by this rule; none denies it.
    Allowed(DecidingRule),
    /// Denied by this rule.
    Denied(DecidingRule),
    /// Denied, because no rule matches.
    NoMatchingRule,
    /// Denied, because the user is blocked.
    Blocked,
    /// Denied, because the user doesn't exist.
    UnknownUser,
}

/// Decides whether a user with this status (`None`: the user doesn't exist) and these effective rules has access.
///
/// A matching DENY decides, otherwise a matching ALLOW. Of several matches the most specific one decides, literals
/// before `*`, then the one with the least role id and the least group id: the order of `effective_rules` doesn't
/// matter.
pub fn decide<'a>(
    user: Option<UserStatus>,
    effective_rules: impl Iterator<Item = EffectiveRule<'a>>,
    question: &AccessRequest,
) -> Decision {
    match user {
        None => return Decision::UnknownUser,
        Some(UserStatus::Blocked) => return Decision::Blocked,
        Some(UserStatus::Active) => {}
    }
    let decides = effective_rules
        .filter(|grant| grant.rule.matches(question))
        .min_by_key(|EffectiveRule { rule, role, group }| (precedence(rule), role.id, group.id));
    let Some(EffectiveRule { rule, role, group }) = decides else {
        return Decision::NoMatchingRule;
    };
    let decides = DecidingRule {
        rule: rule.clone(),
        role: role.clone(),
        group: group.clone(),
    };
    match rule.effect {
        Effect::Deny => Decision::Denied(decides),
        Effect::Allow => Decision::Allowed(decides),
    }
}
