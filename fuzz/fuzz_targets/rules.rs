//! What a decision comes to, held against a model that is written from the contract's words alone.
//!
//! The input is drawn from: few words, so that rules and questions meet often.
#![no_main]

use group_service::domain::{
    AccessRequest, DecidingRule, Decision, Effect, EffectiveRule, GroupId, GroupRef, Literal,
    MAX_ACTION, MAX_BUNDLE, Name, Pattern, PreparedRequest, RoleId, RoleRef, Rule, RuleIndex,
    UserStatus, decide,
};
use libfuzzer_sys::{
    arbitrary::{Result, Unstructured},
    fuzz_target,
};

const WORDS: [&str; 8] = ["a", "b", "ab", "a.b", "-", "_", "0", "aa"];

/// A rule in the model: its parts, whether it denies, and where it comes from.
struct Modelled<'a> {
    parts: [&'a str; 3],
    denies: bool,
    grant: EffectiveRule<'a>,
}

fuzz_target!(|data: &[u8]| {
    // Too little to draw from: there is nothing to decide.
    let _ = run(&mut Unstructured::new(data));
});

fn run(input: &mut Unstructured<'_>) -> Result<()> {
    let user = *input.choose(&[
        Some(UserStatus::Active),
        Some(UserStatus::Active),
        Some(UserStatus::Active),
        Some(UserStatus::Blocked),
        None,
    ])?;
    let asked = [word(input)?, word(input)?, word(input)?];
    let [bundle, controller, action] = asked;
    let literal = |text: &str, max| Literal::parse(text.to_owned(), max).expect("a word");
    let question = AccessRequest {
        bundle: literal(bundle, MAX_BUNDLE),
        controller: literal(controller, MAX_BUNDLE),
        action: literal(action, MAX_ACTION),
    };
    let mut roles = Vec::new();
    for number in 0..input.int_in_range(0..=3_u8)? {
        let id = RoleId::from_bytes([input.arbitrary::<u8>()? % 4; 16]);
        let name = Name::parse(&format!("role {number}")).expect("a name");
        let mut rules = Vec::new();
        // More than are looked through one by one, and fewer.
        for _ in 0..input.int_in_range(0..=40_u8)? {
            rules.push(rule(input)?);
        }
        roles.push((RoleRef { id, name }, rules));
    }
    let mut groups = Vec::new();
    for number in 0..input.int_in_range(1..=3_u8)? {
        let id = GroupId::from_bytes([input.arbitrary::<u8>()? % 4; 16]);
        let title = Name::parse(&format!("group {number}")).expect("a name");
        groups.push(GroupRef { id, title });
    }
    // Two that have the same id are the same.
    roles.sort_by_key(|(role, _)| role.id);
    roles.dedup_by_key(|(role, _)| role.id);
    groups.sort_by_key(|group| group.id);
    groups.dedup_by_key(|group| group.id);

    let mut grants = Vec::new();
    for (role, rules) in &roles {
        for group in &groups {
            if input.ratio(3_u8, 4_u8)? {
                grants.extend(rules.iter().map(|rule| EffectiveRule { rule, role, group }));
            }
        }
    }

    let verdict = decide(user, grants.iter().copied(), &question);
    assert_eq!(verdict, model(user, &grants, asked));
    assert_eq!(
        verdict,
        decide(user, grants.iter().rev().copied(), &question),
        "the order"
    );

    // Prepared, each role has one rule that decides, and those come to the same.
    let prepared = PreparedRequest::new(&question);
    for (role, rules) in &roles {
        let some = RuleIndex::new(rules.clone());
        let mut sorted = rules.clone();
        sorted.sort();
        assert_eq!(some.to_vec(), sorted);
        let group = &groups[0];
        let of_role: Vec<_> = rules
            .iter()
            .map(|rule| EffectiveRule { rule, role, group })
            .collect();
        let alone = match model(Some(UserStatus::Active), &of_role, asked) {
            Decision::Allowed(deciding) | Decision::Denied(deciding) => Some(deciding.rule),
            _ => None,
        };
        assert_eq!(some.deciding_rule(&prepared), alone.as_ref());
    }
    Ok(())
}

fn word(input: &mut Unstructured<'_>) -> Result<&'static str> {
    Ok(*input.choose(&WORDS)?)
}

fn rule(input: &mut Unstructured<'_>) -> Result<Rule> {
    let mut part = |max| {
        let any = input.ratio(1_u8, 3_u8)?;
        let text = if any { "*" } else { word(input)? };
        Ok(Pattern::parse(text, max).expect("a word"))
    };
    Ok(Rule {
        bundle: part(MAX_BUNDLE)?,
        controller: part(MAX_BUNDLE)?,
        action: part(MAX_ACTION)?,
        effect: *input.choose(&[Effect::Allow, Effect::Deny])?,
    })
}

/// The contract's words: who isn't there and who is blocked may nothing; a rule that denies decides, else one that
/// allows; of several that which names the most, then that of the least role id and the least group id.
fn model(user: Option<UserStatus>, grants: &[EffectiveRule<'_>], asked: [&str; 3]) -> Decision {
    match user {
        None => return Decision::UnknownUser,
        Some(UserStatus::Blocked) => return Decision::Blocked,
        Some(UserStatus::Active) => {}
    }
    let modelled = |grant: &EffectiveRule<'_>| {
        let Rule {
            bundle,
            controller,
            action,
            effect,
        } = grant.rule;
        (
            [bundle, controller, action].map(|part| part.as_str().to_owned()),
            *effect == Effect::Deny,
        )
    };
    let parts: Vec<_> = grants.iter().map(modelled).collect();
    let mut matching = Vec::new();
    for (grant, (parts, denies)) in grants.iter().zip(&parts) {
        let fits = (0..3).all(|at| parts[at] == "*" || parts[at] == asked[at]);
        if fits {
            matching.push(Modelled {
                parts: [&parts[0], &parts[1], &parts[2]],
                denies: *denies,
                grant: *grant,
            });
        }
    }
    let denied = matching.iter().any(|rule| rule.denies);
    matching.retain(|rule| rule.denies == denied);
    let vague = |rule: &Modelled<'_>| {
        let [a, b, c] = rule.parts.map(|part| u8::from(part == "*"));
        (a << 2) | (b << 1) | c
    };
    let mut best: Option<&Modelled<'_>> = None;
    for rule in &matching {
        let better = best.is_none_or(|best| {
            let key = |rule: &Modelled<'_>| (vague(rule), rule.grant.role.id, rule.grant.group.id);
            key(rule) < key(best)
        });
        if better {
            best = Some(rule);
        }
    }
    let Some(Modelled { grant, .. }) = best else {
        return Decision::NoMatchingRule;
    };
    let deciding = DecidingRule {
        rule: grant.rule.clone(),
        role: grant.role.clone(),
        group: grant.group.clone(),
    };
    match denied {
        true => Decision::Denied(deciding),
        false => Decision::Allowed(deciding),
    }
}
