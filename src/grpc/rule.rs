//! Conversions of rules and access questions.

use std::{collections::HashSet, fmt::Display};

use crate::{
    domain::{AccessRequest, Effect, Literal, MAX_ACTION, MAX_BUNDLE, Pattern, Rule, Violations},
    pb,
};

/// Maximum number of rules of a role, and of rules that one request may add or remove.
const MAX_RULES: usize = 1000;

/// Parses a list of distinct rules.
pub(super) fn parse_rules(
    violations: &mut Violations,
    field: &str,
    rules: Vec<pb::Rule>,
) -> Option<Vec<Rule>> {
    if rules.len() > MAX_RULES {
        let len = rules.len();
        violations.add(
            field,
            format!("must have at most {MAX_RULES} entries, not {len}"),
        );
        return None;
    }
    let mut seen = HashSet::new();
    let mut read = Vec::with_capacity(rules.len());
    let mut fine = true;
    for (index, rule) in rules.into_iter().enumerate() {
        let field = format!("{field}[{index}]");
        match parse_rule(violations, &field, &rule) {
            Some(rule) if seen.insert(rule.clone()) => read.push(rule),
            Some(_) => {
                violations.add(field, "must not be given twice");
                fine = false;
            }
            None => fine = false,
        }
    }
    fine.then_some(read)
}

fn parse_rule(violations: &mut Violations, field: &str, rule: &pb::Rule) -> Option<Rule> {
    let pb::Rule {
        bundle,
        controller,
        action,
        effect,
    } = rule;
    let mut part = |name: &str, text: &str, max| {
        violations.check(format_args!("{field}.{name}"), Pattern::parse(text, max))
    };
    let bundle = part("bundle", bundle, MAX_BUNDLE);
    let controller = part("controller", controller, MAX_BUNDLE);
    let action = part("action", action, MAX_ACTION);
    let effect = match pb::Effect::try_from(*effect) {
        Ok(pb::Effect::Allow) => Some(Effect::Allow),
        Ok(pb::Effect::Deny) => Some(Effect::Deny),
        Ok(pb::Effect::Unspecified) | Err(_) => {
            violations.add(
                format!("{field}.effect"),
                "must be EFFECT_ALLOW or EFFECT_DENY",
            );
            None
        }
    };
    Some(Rule {
        bundle: bundle?,
        controller: controller?,
        action: action?,
        effect: effect?,
    })
}

/// Parses an access question; `prefix` precedes its field names in violations.
pub(super) fn read_access_request(
    violations: &mut Violations,
    prefix: impl Display,
    [bundle, controller, action]: [String; 3],
) -> Option<AccessRequest> {
    let mut part = |name: &str, text: String, max| {
        violations.check(format_args!("{prefix}{name}"), Literal::parse(text, max))
    };
    let bundle = part("bundle", bundle, MAX_BUNDLE);
    let controller = part("controller", controller, MAX_BUNDLE);
    let action = part("action", action, MAX_ACTION);
    Some(AccessRequest {
        bundle: bundle?,
        controller: controller?,
        action: action?,
    })
}

impl From<Rule> for pb::Rule {
    fn from(rule: Rule) -> Self {
        let effect = match rule.effect {
            Effect::Allow => pb::Effect::Allow,
            Effect::Deny => pb::Effect::Deny,
        };
        Self {
            bundle: rule.bundle.into_string(),
            controller: rule.controller.into_string(),
            action: rule.action.into_string(),
            effect: effect.into(),
        }
    }
}
