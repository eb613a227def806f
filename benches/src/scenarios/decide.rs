//! The access decision alone, in this process, against casbin.

use std::{collections::HashMap, hint::black_box, time::Instant};

use casbin::{CoreApi, DefaultModel, Enforcer, MemoryAdapter, MgmtApi};
use group_service::domain::{
    AccessRequest, Decision, Effect, EffectiveRule, GroupRef, Id, Literal, MAX_ACTION, MAX_BUNDLE,
    Name, Pattern, PreparedRequest, RoleId, RoleRef, Rule, RuleIndex, UserId, UserStatus, decide,
};

use super::speed;
use crate::{
    Run,
    directory::{Directory, RULES, Size, denies, role_name, rule, title},
    report::Target,
    rounds::alternate,
};

/// Ten thousand users, and ten thousand roles with eleven rules each.
const SIZE: Size = Size {
    groups: 100_000,
    users: 10_000,
    changes: 0,
};
/// Number of questions, each about a different user.
const QUESTIONS: u64 = 8;

/// The same semantics as a casbin model: DENY overrides ALLOW, `*` matches anything, roles come from groups. The
/// most selective conditions come first, which is fastest in casbin.
const MODEL: &str = r#"
[request_definition]
r = sub, bundle, controller, action
[policy_definition]
p = sub, bundle, controller, action, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = (p.controller == r.controller || p.controller == "*") && (p.action == r.action || p.action == "*") && (p.bundle == r.bundle || p.bundle == "*") && g(r.sub, p.sub)
"#;

pub(super) async fn compare_with_casbin(run: &mut Run) {
    let directory = Directory {
        path: run.path("none"),
        size: SIZE,
    };
    let ours = DomainEngine::new(&directory);
    let theirs = casbin(&directory).await;
    let asked: Vec<_> = Directory::spread_indices(SIZE.users, QUESTIONS)
        .enumerate()
        .map(|(place, user)| (user, asked(&directory, user, place as u64)))
        .collect();
    let enforce = |user: u64, [bundle, controller, action]: &[String; 3]| {
        let sub = format!("user-{user}");
        theirs.enforce((
            sub.as_str(),
            bundle.as_str(),
            controller.as_str(),
            action.as_str(),
        ))
    };
    for (user, question) in &asked {
        let may = enforce(*user, question).expect("decided");
        assert_eq!(
            ours.decide(*user, &parse(question)),
            may,
            "{user} {question:?}"
        );
    }
    let questions: Vec<_> = asked
        .iter()
        .map(|(user, asked)| (*user, parse(asked)))
        .collect();
    let (here, there) = alternate(
        run.rounds,
        async || {
            let (began, mut decisions) = (Instant::now(), 0_u64);
            while began.elapsed() < run.time / 4 {
                for (user, question) in &questions {
                    black_box(ours.decide(*user, black_box(question)));
                    decisions += 1;
                }
            }
            decisions as f64 / began.elapsed().as_secs_f64()
        },
        async || {
            let began = Instant::now();
            for (user, question) in &asked {
                black_box(enforce(*user, black_box(question))).expect("decided");
            }
            asked.len() as f64 / began.elapsed().as_secs_f64()
        },
    )
    .await;
    let what = "the decision alone, one user of 10,000, 110,000 rules in the directory";
    let target = Target::AtLeast(1000.0);
    run.report.add(speed(
        "decide",
        what,
        "casbin, equal rules",
        target,
        (&*here, &*there),
    ));
}

/// A question for a user; every other one is denied.
fn asked(directory: &Directory, user: u64, place: u64) -> [String; 3] {
    let group = directory.groups_of_user(user)[place as usize % 3];
    let role = directory.roles_of_group(group)[place as usize % 3];
    rule(
        role,
        if place.is_multiple_of(2) {
            place
        } else {
            RULES - 1
        },
    )
}

/// The cached data that the server decides on.
struct DomainEngine {
    roles: HashMap<UserId, Vec<(RoleRef, GroupRef)>>,
    rules: HashMap<RoleId, RuleIndex>,
    users: Vec<UserId>,
}

impl DomainEngine {
    fn new(directory: &Directory) -> Self {
        let name = |text: String| Name::parse(&text).expect("a name");
        let role = |number| RoleRef {
            id: Id::parse(&directory.role(number)).expect("an id"),
            name: name(role_name(number)),
        };
        let group = |number| GroupRef {
            id: Id::parse(&directory.group(number)).expect("an id"),
            title: name(title(number)),
        };
        let users: Vec<UserId> = (0..SIZE.users)
            .map(|user| Id::parse(&directory.user(user)).expect("an id"))
            .collect();
        let roles_of = |user| {
            let groups = directory.groups_of_user(user).into_iter();
            groups
                .flat_map(|number| {
                    directory
                        .roles_of_group(number)
                        .map(|r| (role(r), group(number)))
                })
                .collect()
        };
        let rules_of = |role| {
            let rules = (0..RULES).map(|number| our_rule(role, number));
            RuleIndex::new(rules.collect())
        };
        Self {
            roles: (0..)
                .zip(&users)
                .map(|(user, id)| (*id, roles_of(user)))
                .collect(),
            rules: (0..directory.roles())
                .map(|r| (role(r).id, rules_of(r)))
                .collect(),
            users,
        }
    }

    /// Calls the public decision function with cached data, as the server does.
    fn decide(&self, user: u64, question: &AccessRequest) -> bool {
        let roles = self.roles[&self.users[user as usize]].iter();
        let asked = PreparedRequest::new(question);
        let grants = roles.filter_map(|(role, group)| {
            let rule = self.rules[&role.id].deciding_rule(&asked)?;
            Some(EffectiveRule { rule, role, group })
        });
        matches!(
            decide(Some(UserStatus::Active), grants, question),
            Decision::Allowed(_)
        )
    }
}

fn our_rule(role: u64, number: u64) -> Rule {
    let [bundle, controller, action] = rule(role, number);
    let pattern = |text: &str, max| Pattern::parse(text, max).expect("a pattern");
    Rule {
        bundle: pattern(&bundle, MAX_BUNDLE),
        controller: pattern(&controller, MAX_BUNDLE),
        action: pattern(&action, MAX_ACTION),
        effect: if denies(number) {
            Effect::Deny
        } else {
            Effect::Allow
        },
    }
}

fn parse([bundle, controller, action]: &[String; 3]) -> AccessRequest {
    let literal = |text: &str, max| Literal::parse(text.to_owned(), max).expect("a literal");
    AccessRequest {
        bundle: literal(bundle, MAX_BUNDLE),
        controller: literal(controller, MAX_BUNDLE),
        action: literal(action, MAX_ACTION),
    }
}

async fn casbin(directory: &Directory) -> Enforcer {
    let model = DefaultModel::from_str(MODEL).await.expect("a model");
    let mut enforcer = Enforcer::new(model, MemoryAdapter::default())
        .await
        .expect("an enforcer");
    let mut policies = Vec::new();
    for role in 0..directory.roles() {
        for number in 0..RULES {
            let [bundle, controller, action] = rule(role, number);
            let effect = if denies(number) { "deny" } else { "allow" };
            policies.push(vec![
                format!("role-{role}"),
                bundle,
                controller,
                action,
                effect.to_owned(),
            ]);
        }
    }
    enforcer.add_policies(policies).await.expect("added");
    let mut links = Vec::new();
    let mut groups = std::collections::BTreeSet::new();
    for user in 0..SIZE.users {
        for group in directory.groups_of_user(user) {
            groups.insert(group);
            links.push(vec![format!("user-{user}"), format!("group-{group}")]);
        }
    }
    for group in groups {
        let roles = directory.roles_of_group(group);
        links.extend(roles.map(|role| vec![format!("group-{group}"), format!("role-{role}")]));
    }
    enforcer.add_grouping_policies(links).await.expect("added");
    enforcer
}
