//! `AccessService`: decisions and their reasons.

use std::collections::BTreeSet;

use group_service::pb::{self, Cause, Decision, Effect};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use tonic_types::RpcStatusExt;

use crate::{
    contract::{Failure, Success},
    harness::{TestServer, expect_error, unknown_id},
};

pub(crate) fn successes() -> Vec<Success> {
    vec![
        Success {
            rpc: "CheckAccess",
            run: |w| {
                Box::pin(async move {
                    let (user, role, group) = stage(w, &[allow("shop", "*", "view")]).await;
                    let trace = w.traced();
                    let answer = w.access.check_access(check(&user, "shop order view")).await;
                    let answer = answer.expect("decided").into_inner();
                    assert!(trace.statements().await <= 3);
                    let again = w.traced();
                    let same = w.access.check_access(check(&user, "shop order view")).await;
                    assert_eq!(answer, same.expect("decided").into_inner());
                    assert_eq!(again.statements().await, 0, "it is a cache hit");
                    assert_eq!(
                        (answer.decision(), answer.cause()),
                        (Decision::Allowed, Cause::AllowRule)
                    );
                    let grant = answer.grant.expect("what decided");
                    assert_eq!(grant.rule, Some(allow("shop", "*", "view")));
                    assert_eq!(grant.role.expect("a role").id, role);
                    assert_eq!(grant.group.expect("a group").id, group);
                    assert!(answer.revision > 0);
                    trace
                })
            },
        },
        Success {
            rpc: "BatchCheckAccess",
            run: |w| {
                Box::pin(async move {
                    let (user, ..) =
                        stage(w, &[allow("*", "*", "view"), deny("shop", "*", "*")]).await;
                    let ask = |words: &str| question(&user, words);
                    let questions = vec![
                        ask("shop a view"),
                        ask("blog a view"),
                        ask("blog a edit"),
                        ask("shop a view"),
                    ];
                    let trace = w.traced();
                    let request = pb::BatchCheckAccessRequest {
                        questions,
                        ..Default::default()
                    };
                    let answers = w
                        .access
                        .batch_check_access(request)
                        .await
                        .expect("decided")
                        .into_inner();
                    let causes: Vec<_> = answers
                        .answers
                        .iter()
                        .map(|answer| answer.cause())
                        .collect();
                    // Answers are in the order of the questions, including repeated ones.
                    assert_eq!(
                        causes,
                        [
                            Cause::DenyRule,
                            Cause::AllowRule,
                            Cause::NoRule,
                            Cause::DenyRule
                        ]
                    );
                    w.trace(None);
                    // A thousand questions about one user need no more statements.
                    let questions = (0..1000)
                        .map(|n| question(&user, &format!("b{n} c view")))
                        .collect();
                    let request = pb::BatchCheckAccessRequest {
                        questions,
                        ..Default::default()
                    };
                    let thousand = w.traced();
                    let answers = w
                        .access
                        .batch_check_access(request)
                        .await
                        .expect("decided")
                        .into_inner();
                    assert_eq!(answers.answers.len(), 1000);
                    assert!(thousand.statements().await <= 3);
                    trace
                })
            },
        },
        Success {
            rpc: "ListUsersWithAccess",
            run: |w| {
                Box::pin(async move {
                    let (user, role, _) = stage(w, &[allow("shop", "order", "view")]).await;
                    let trace = w.traced();
                    let list = w
                        .access
                        .list_users_with_access(list_users_request("shop order view"))
                        .await;
                    let list = list.expect("listed").into_inner();
                    assert_eq!(list.users.len(), 1);
                    assert_eq!(list.users[0].user.as_ref().expect("a user").id, user);
                    let grant = list.users[0].grant.as_ref().expect("what allows it");
                    assert_eq!(grant.role.as_ref().expect("a role").id, role);
                    assert_eq!(trace.statements().await, 6);
                    w.trace(None);
                    let none = w
                        .access
                        .list_users_with_access(list_users_request("shop order edit"))
                        .await;
                    assert_eq!(none.expect("listed").into_inner().users, []);
                    trace
                })
            },
        },
    ]
}

pub(crate) fn failures() -> Vec<Failure> {
    vec![
        Failure {
            rpc: "CheckAccess",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let request = pb::CheckAccessRequest {
                        user_id: "u".into(),
                        bundle: "*".into(),
                        controller: String::new(),
                        action: "x".repeat(46),
                        min_revision: -1,
                    };
                    let reported = expect_error(w.access.check_access(request).await);
                    let fields = ["user_id", "bundle", "controller", "action", "min_revision"];
                    assert_eq!(reported.fields(), fields);
                    reported
                })
            },
        },
        Failure {
            rpc: "BatchCheckAccess",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let one = question(&unknown_id(), "a b c");
                    let questions = vec![one.clone(); 1001];
                    let request = pb::BatchCheckAccessRequest {
                        questions,
                        ..Default::default()
                    };
                    assert_eq!(
                        expect_error(w.access.batch_check_access(request).await).fields(),
                        ["questions"]
                    );
                    let request = pb::BatchCheckAccessRequest::default();
                    assert_eq!(
                        expect_error(w.access.batch_check_access(request).await).fields(),
                        ["questions"]
                    );
                    let questions = vec![
                        one.clone(),
                        pb::Question {
                            action: "A".into(),
                            user_id: String::new(),
                            ..one
                        },
                    ];
                    // A malformed question alone doesn't fail the call; if the call fails for another reason, its
                    // violations are included.
                    let request = pb::BatchCheckAccessRequest {
                        questions,
                        min_revision: -1,
                    };
                    let reported = expect_error(w.access.batch_check_access(request).await);
                    assert_eq!(
                        reported.fields(),
                        [
                            "min_revision",
                            "questions[1].user_id",
                            "questions[1].action"
                        ]
                    );
                    reported
                })
            },
        },
        Failure {
            rpc: "ListUsersWithAccess",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let request = pb::ListUsersWithAccessRequest {
                        page_size: -1,
                        ..list_users_request("a b *")
                    };
                    let reported = expect_error(w.access.list_users_with_access(request).await);
                    assert_eq!(reported.fields(), ["action", "page_size"]);
                    reported
                })
            },
        },
    ]
}

/// The rules of each role, the roles of each group, and the groups of the user; the question; the expected cause.
type Row = (
    &'static [&'static [&'static str]],
    &'static [&'static [usize]],
    &'static [usize],
    &'static str,
    Cause,
);

/// `+` allows, `-` denies.
const TABLE: &[Row] = &[
    // Literals only match themselves.
    (&[&["+ a b c"]], &[&[0]], &[0], "a b c", Cause::AllowRule),
    (&[&["+ a b c"]], &[&[0]], &[0], "x b c", Cause::NoRule),
    (&[&["+ a b c"]], &[&[0]], &[0], "a x c", Cause::NoRule),
    (&[&["+ a b c"]], &[&[0]], &[0], "a b x", Cause::NoRule),
    (&[&["+ a b c"]], &[&[0]], &[0], "ab b c", Cause::NoRule),
    (&[&["+ ab b c"]], &[&[0]], &[0], "a b c", Cause::NoRule),
    (
        &[&["+ a.b-c_1 b c"]],
        &[&[0]],
        &[0],
        "a.b-c_1 b c",
        Cause::AllowRule,
    ),
    (&[&["+ a.b b c"]], &[&[0]], &[0], "axb b c", Cause::NoRule),
    // Wildcards match anything, in each part.
    (&[&["+ * b c"]], &[&[0]], &[0], "x b c", Cause::AllowRule),
    (&[&["+ * b c"]], &[&[0]], &[0], "x x c", Cause::NoRule),
    (&[&["+ a * c"]], &[&[0]], &[0], "a x c", Cause::AllowRule),
    (&[&["+ a * c"]], &[&[0]], &[0], "a x x", Cause::NoRule),
    (&[&["+ a b *"]], &[&[0]], &[0], "a b x", Cause::AllowRule),
    (&[&["+ a b *"]], &[&[0]], &[0], "x b x", Cause::NoRule),
    (&[&["+ * * c"]], &[&[0]], &[0], "x y c", Cause::AllowRule),
    (&[&["+ * b *"]], &[&[0]], &[0], "x b y", Cause::AllowRule),
    (&[&["+ a * *"]], &[&[0]], &[0], "a x y", Cause::AllowRule),
    (&[&["+ * * *"]], &[&[0]], &[0], "x y z", Cause::AllowRule),
    (&[&["- * * *"]], &[&[0]], &[0], "x y z", Cause::DenyRule),
    // Without a matching rule the user is denied.
    (&[&[]], &[&[0]], &[0], "a b c", Cause::NoRule),
    (&[&["+ * * *"]], &[&[0]], &[], "a b c", Cause::NoRule),
    (&[&["- * * *"]], &[&[0]], &[], "a b c", Cause::NoRule),
    (&[&["- a b c"]], &[&[0]], &[0], "a b x", Cause::NoRule),
    // A DENY rule overrides ALLOW rules, however specific it is and wherever it comes from.
    (
        &[&["+ a b c", "- a b c"]],
        &[&[0]],
        &[0],
        "a b c",
        Cause::DenyRule,
    ),
    (
        &[&["- a b c", "+ a b c"]],
        &[&[0]],
        &[0],
        "a b c",
        Cause::DenyRule,
    ),
    (
        &[&["+ a b c", "- * * *"]],
        &[&[0]],
        &[0],
        "a b c",
        Cause::DenyRule,
    ),
    (
        &[&["+ * * *", "- a b c"]],
        &[&[0]],
        &[0],
        "a b c",
        Cause::DenyRule,
    ),
    (
        &[&["+ * * *", "- a b c"]],
        &[&[0]],
        &[0],
        "a b x",
        Cause::AllowRule,
    ),
    (
        &[&["+ * * *", "- a * *"]],
        &[&[0]],
        &[0],
        "a x y",
        Cause::DenyRule,
    ),
    (
        &[&["+ * * *", "- a * *"]],
        &[&[0]],
        &[0],
        "b x y",
        Cause::AllowRule,
    ),
    // Across roles of one group.
    (
        &[&["+ a b c"], &["- a b c"]],
        &[&[0, 1]],
        &[0],
        "a b c",
        Cause::DenyRule,
    ),
    (
        &[&["- a b c"], &["+ a b c"]],
        &[&[0, 1]],
        &[0],
        "a b c",
        Cause::DenyRule,
    ),
    (
        &[&["+ a b c"], &["+ x y z"]],
        &[&[0, 1]],
        &[0],
        "x y z",
        Cause::AllowRule,
    ),
    (
        &[&["+ a b c"], &["- x y z"]],
        &[&[0, 1]],
        &[0],
        "a b c",
        Cause::AllowRule,
    ),
    // Across groups, in whatever order the user was assigned.
    (
        &[&["+ a b c"], &["- a b c"]],
        &[&[0], &[1]],
        &[0, 1],
        "a b c",
        Cause::DenyRule,
    ),
    (
        &[&["+ a b c"], &["- a b c"]],
        &[&[0], &[1]],
        &[1, 0],
        "a b c",
        Cause::DenyRule,
    ),
    (
        &[&["+ a b c"], &["- * * *"]],
        &[&[0], &[1]],
        &[0],
        "a b c",
        Cause::AllowRule,
    ),
    (
        &[&["+ a b c"], &["- * * *"]],
        &[&[0], &[1]],
        &[1],
        "a b c",
        Cause::DenyRule,
    ),
    (
        &[&["+ a b c"], &["+ x y z"]],
        &[&[0], &[1]],
        &[0, 1],
        "x y z",
        Cause::AllowRule,
    ),
    // The same role through two groups, and a role of a group that the user isn't in.
    (
        &[&["+ a b c"]],
        &[&[0], &[0]],
        &[0, 1],
        "a b c",
        Cause::AllowRule,
    ),
    (
        &[&["- a b c"]],
        &[&[0], &[0]],
        &[0, 1],
        "a b c",
        Cause::DenyRule,
    ),
    (
        &[&["+ a b c"], &["- a b c"]],
        &[&[0], &[0, 1]],
        &[0],
        "a b c",
        Cause::AllowRule,
    ),
    (
        &[&["+ a b c"], &["- a b c"]],
        &[&[0], &[0, 1]],
        &[0, 1],
        "a b c",
        Cause::DenyRule,
    ),
];

#[tokio::test]
async fn decisions_match_the_case_table() {
    let mut w = TestServer::start().await;
    for (number, (roles, groups, of_user, words, expected)) in TABLE.iter().enumerate() {
        let mut role_ids = Vec::new();
        for (role, rules) in roles.iter().enumerate() {
            let rules = rules.iter().map(|rule| read(rule)).collect();
            let name = format!("role {number}.{role}");
            let request = pb::CreateRoleRequest {
                name,
                rules,
                ..Default::default()
            };
            let created = w
                .roles
                .create_role(request)
                .await
                .expect("created")
                .into_inner();
            role_ids.push(created.role.expect("a role").id);
        }
        let mut group_ids = Vec::new();
        for (group, roles) in groups.iter().enumerate() {
            let roles: Vec<_> = roles.iter().map(|role| &*role_ids[*role]).collect();
            group_ids.push(w.group(&format!("group {number}.{group}"), &roles).await.id);
        }
        let user = w.user(&format!("user {number}")).await.id;
        for group in *of_user {
            w.assign(&group_ids[*group], &user).await;
        }
        let answer = w
            .access
            .check_access(check(&user, words))
            .await
            .expect("decided")
            .into_inner();
        assert_eq!(answer.cause(), *expected, "case {number}: {words}");
        let allowed = *expected == Cause::AllowRule;
        assert_eq!(
            answer.decision() == Decision::Allowed,
            allowed,
            "case {number}"
        );
        assert_eq!(
            answer.grant.is_some(),
            *expected != Cause::NoRule,
            "case {number}"
        );

        // Blocked and unknown users are denied.
        let status = Some(pb::UserStatus::Blocked.into());
        let request = pb::UpdateUserRequest {
            user_id: user.clone(),
            status,
            ..Default::default()
        };
        w.users.update_user(request).await.expect("blocked");
        let answer = w
            .access
            .check_access(check(&user, words))
            .await
            .expect("decided")
            .into_inner();
        assert_eq!(
            (answer.decision(), answer.cause()),
            (Decision::Denied, Cause::UserBlocked)
        );
        let answer = w
            .access
            .check_access(check(&unknown_id(), words))
            .await
            .expect("decided")
            .into_inner();
        assert_eq!(
            (answer.decision(), answer.cause()),
            (Decision::Denied, Cause::UserUnknown)
        );
        assert_eq!(answer.grant, None);
    }
}

const QUESTIONS: usize = 100_000;
const DIRECTORIES: usize = 10;

/// A rule: bundle, controller, action, and whether it denies.
type Triple = (String, String, String, bool);

/// A simple model of the contract: collects all rules as one set; a DENY decides, else an ALLOW, else denied.
struct ReferenceModel {
    users: Vec<(String, bool, BTreeSet<usize>)>,
    groups: Vec<(String, BTreeSet<usize>)>,
    roles: Vec<(String, BTreeSet<Triple>)>,
}

impl ReferenceModel {
    fn cause(&self, user: &str, asked: [&str; 3]) -> Cause {
        let Some((_, blocked, groups)) = self.users.iter().find(|(id, ..)| id == user) else {
            return Cause::UserUnknown;
        };
        if *blocked {
            return Cause::UserBlocked;
        }
        let roles: BTreeSet<_> = groups
            .iter()
            .flat_map(|group| &self.groups[*group].1)
            .collect();
        let rules = roles.iter().flat_map(|role| &self.roles[**role].1);
        let matching: Vec<_> = rules.filter(|rule| matches(rule, asked)).collect();
        if matching.iter().any(|(.., deny)| *deny) {
            Cause::DenyRule
        } else if matching.is_empty() {
            Cause::NoRule
        } else {
            Cause::AllowRule
        }
    }

    /// Checks a grant: the role has the rule, the group has the role, the user is in the group, and the rule matches.
    fn verify(&self, user: &str, asked: [&str; 3], cause: Cause, grant: &pb::Grant) {
        let rule = grant.rule.as_ref().expect("a rule");
        let deny = rule.effect() == Effect::Deny;
        assert_eq!(deny, cause == Cause::DenyRule);
        let rule = (
            rule.bundle.clone(),
            rule.controller.clone(),
            rule.action.clone(),
            deny,
        );
        assert!(matches(&rule, asked), "{rule:?} for {asked:?}");
        let role = &grant.role.as_ref().expect("a role").id;
        let role = self
            .roles
            .iter()
            .position(|(id, _)| id == role)
            .expect("known");
        assert!(self.roles[role].1.contains(&rule));
        let group = &grant.group.as_ref().expect("a group").id;
        let group = self
            .groups
            .iter()
            .position(|(id, _)| id == group)
            .expect("known");
        assert!(self.groups[group].1.contains(&role));
        let (.., groups) = self
            .users
            .iter()
            .find(|(id, ..)| id == user)
            .expect("known");
        assert!(groups.contains(&group));
    }
}

fn matches((bundle, controller, action, _): &Triple, asked: [&str; 3]) -> bool {
    [bundle, controller, action]
        .into_iter()
        .zip(asked)
        .all(|(part, asked)| part == "*" || part == asked)
}

#[tokio::test]
async fn decisions_and_deciding_rules_match_reference_model() {
    let mut runner = TestRunner::default();
    let mut draw = |most: usize| (0..most).new_tree(&mut runner).expect("drawn").current();
    for _ in 0..DIRECTORIES {
        let mut w = TestServer::start().await;
        let naive = random(&mut w, &mut draw).await;
        let words = ["a", "b", "c"];
        for _ in 0..QUESTIONS / DIRECTORIES / 1000 {
            let questions: Vec<_> = (0..1000)
                .map(|_| pb::Question {
                    // Sometimes an unknown user.
                    user_id: naive
                        .users
                        .get(draw(naive.users.len() + 1))
                        .map_or_else(unknown_id, |(id, ..)| id.clone()),
                    bundle: words[draw(3)].into(),
                    controller: words[draw(3)].into(),
                    action: words[draw(3)].into(),
                })
                .collect();
            let request = pb::BatchCheckAccessRequest {
                questions: questions.clone(),
                ..Default::default()
            };
            let answers = w
                .access
                .batch_check_access(request.clone())
                .await
                .expect("decided")
                .into_inner();
            let again = w
                .access
                .batch_check_access(request)
                .await
                .expect("decided")
                .into_inner();
            assert_eq!(answers, again, "the same for the same state");
            for (question, answer) in questions.iter().zip(&answers.answers) {
                let asked = [&*question.bundle, &*question.controller, &*question.action];
                assert_eq!(
                    answer.cause(),
                    naive.cause(&question.user_id, asked),
                    "{question:?}"
                );
                if let Some(grant) = &answer.grant {
                    naive.verify(&question.user_id, asked, answer.cause(), grant);
                }
            }
        }
        // `ListUsersWithAccess` must return exactly the users for whom a check is allowed.
        for asked in [
            ["a", "b", "c"],
            ["a", "a", "a"],
            ["b", "c", "c"],
            ["c", "c", "c"],
        ] {
            let mut listed = BTreeSet::new();
            let mut request = pb::ListUsersWithAccessRequest {
                page_size: 3,
                ..list_users_request(&asked.join(" "))
            };
            loop {
                let page = w
                    .access
                    .list_users_with_access(request.clone())
                    .await
                    .expect("listed")
                    .into_inner();
                for entry in page.users {
                    let user = entry.user.expect("a user").id;
                    naive.verify(
                        &user,
                        asked,
                        Cause::AllowRule,
                        &entry.grant.expect("a grant"),
                    );
                    assert!(listed.insert(user), "every user once");
                }
                request.page_token = page.next_page_token;
                if request.page_token.is_empty() {
                    break;
                }
            }
            let everyone = naive.users.iter().map(|(user, ..)| user);
            let may = everyone.filter(|user| naive.cause(user, asked) == Cause::AllowRule);
            assert_eq!(listed, may.cloned().collect(), "{asked:?}");
        }
    }
}

async fn random(w: &mut TestServer, draw: &mut impl FnMut(usize) -> usize) -> ReferenceModel {
    let words = ["a", "b", "c", "*", "*"];
    let mut naive = ReferenceModel {
        users: vec![],
        groups: vec![],
        roles: vec![],
    };
    for number in 0..8 {
        let mut rules = BTreeSet::new();
        for _ in 0..draw(4) {
            let mut word = || words[draw(words.len())].to_owned();
            let (bundle, controller, action) = (word(), word(), word());
            rules.insert((bundle, controller, action, draw(3) == 0));
        }
        let wire = rules.iter().rev().map(|(b, c, a, denies)| {
            if *denies {
                deny(b, c, a)
            } else {
                allow(b, c, a)
            }
        });
        let (name, rules_of) = (format!("role {number}"), wire.collect());
        let request = pb::CreateRoleRequest {
            name,
            rules: rules_of,
            ..Default::default()
        };
        let role = w
            .roles
            .create_role(request)
            .await
            .expect("created")
            .into_inner()
            .role;
        naive.roles.push((role.expect("a role").id, rules));
    }
    for number in 0..8 {
        let roles: BTreeSet<_> = (0..=draw(3)).map(|_| draw(8)).collect();
        let ids: Vec<_> = roles.iter().map(|role| &*naive.roles[*role].0).collect();
        naive
            .groups
            .push((w.group(&format!("group {number}"), &ids).await.id, roles));
    }
    for number in 0..12 {
        let user = w.user(&format!("user {number}")).await.id;
        let groups: BTreeSet<_> = (0..draw(4)).map(|_| draw(8)).collect();
        for group in groups.iter().rev() {
            w.assign(&naive.groups[*group].0, &user).await;
        }
        let blocked = draw(6) == 0;
        if blocked {
            let status = Some(pb::UserStatus::Blocked.into());
            let request = pb::UpdateUserRequest {
                user_id: user.clone(),
                status,
                ..Default::default()
            };
            w.users.update_user(request).await.expect("blocked");
        }
        naive.users.push((user, blocked, groups));
    }
    naive
}

/// Creates a user in a group with a role with these rules; returns the ids of user, role and group.
async fn stage(w: &mut TestServer, rules: &[pb::Rule]) -> (String, String, String) {
    let request = pb::CreateRoleRequest {
        name: "A".into(),
        rules: rules.to_vec(),
        ..Default::default()
    };
    let role = w
        .roles
        .create_role(request)
        .await
        .expect("created")
        .into_inner()
        .role
        .expect("a role")
        .id;
    let group = w.group("Ops", &[&role]).await.id;
    let user = w.user("ann").await.id;
    w.assign(&group, &user).await;
    (user, role, group)
}

pub(crate) fn allow(bundle: &str, controller: &str, action: &str) -> pb::Rule {
    rule(bundle, controller, action, Effect::Allow)
}

pub(crate) fn deny(bundle: &str, controller: &str, action: &str) -> pb::Rule {
    rule(bundle, controller, action, Effect::Deny)
}

fn rule(bundle: &str, controller: &str, action: &str, effect: Effect) -> pb::Rule {
    let (bundle, controller, action) = (bundle.into(), controller.into(), action.into());
    pb::Rule {
        bundle,
        controller,
        action,
        effect: effect.into(),
    }
}

/// Parses a rule of the table.
fn read(text: &str) -> pb::Rule {
    let words: Vec<_> = text.split(' ').collect();
    let [effect, bundle, controller, action] = words[..] else {
        panic!("{text}")
    };
    if effect == "+" {
        allow(bundle, controller, action)
    } else {
        deny(bundle, controller, action)
    }
}

#[tokio::test]
async fn batch_check_reports_malformed_requests_individually() {
    for mut w in [TestServer::start().await, TestServer::without_cache().await] {
        let (user, ..) = stage(&mut w, &[allow("shop", "*", "view")]).await;
        let good = question(&user, "shop order view");
        let without_user = pb::Question {
            user_id: String::new(),
            action: "View".into(),
            ..good.clone()
        };
        let wildcard = pb::Question {
            bundle: "*".into(),
            ..good.clone()
        };
        let mut ask = async |questions: &[&pb::Question]| {
            let request = pb::BatchCheckAccessRequest {
                questions: questions
                    .iter()
                    .map(|question| (*question).clone())
                    .collect(),
                ..Default::default()
            };
            let response = w.access.batch_check_access(request).await;
            response.expect("answered").into_inner()
        };
        let alone = ask(&[&good]).await;
        let mixed = ask(&[&without_user, &good, &good, &wildcard, &good, &wildcard]).await;
        assert_eq!(mixed.revision, alone.revision);
        let fields: Vec<_> = mixed.answers.iter().map(wrong_fields).collect();
        let none = Vec::<String>::new;
        assert_eq!(
            fields,
            [
                vec!["user_id".to_owned(), "action".to_owned()],
                none(),
                none(),
                vec!["bundle".to_owned()],
                none(),
                vec!["bundle".to_owned()],
            ]
        );
        for (answer, fields) in mixed.answers.iter().zip(fields) {
            if fields.is_empty() {
                assert_eq!(answer, &alone.answers[0]);
            } else {
                assert_eq!(answer.decision(), Decision::Unspecified);
                assert_eq!(answer.cause(), Cause::Unspecified);
                assert_eq!(answer.grant, None);
            }
        }
        // A batch without any valid question has the same freshness.
        let none = ask(&[&wildcard; 2]).await;
        assert_eq!(none.revision, alone.revision);
        assert_eq!(none.answers.len(), 2);
        assert!(
            none.answers
                .iter()
                .all(|answer| wrong_fields(answer) == ["bundle"])
        );
    }
}

/// The invalid fields of a question according to its answer; empty if it was decided.
fn wrong_fields(answer: &pb::Answer) -> Vec<String> {
    let Some(error) = &answer.error else {
        return Vec::new();
    };
    assert_eq!(error.code, i32::from(tonic::Code::InvalidArgument));
    let details = error.get_error_details();
    let info = details.error_info().expect("a reason");
    assert_eq!(
        (&*info.reason, &*info.domain),
        ("INVALID_REQUEST", "groups.v1")
    );
    let violations = &details
        .bad_request()
        .expect("what is wrong")
        .field_violations;
    let first = violations.first().expect("a violation");
    let sentence = format!("{} {}", first.field, first.description);
    assert!(error.message.starts_with(&sentence), "{}", error.message);
    violations
        .iter()
        .map(|violation| violation.field.clone())
        .collect()
}

pub(crate) fn question(user_id: &str, words: &str) -> pb::Question {
    let pb::CheckAccessRequest {
        user_id,
        bundle,
        controller,
        action,
        ..
    } = check(user_id, words);
    pb::Question {
        user_id,
        bundle,
        controller,
        action,
    }
}

pub(crate) fn check(user_id: &str, words: &str) -> pb::CheckAccessRequest {
    let pb::ListUsersWithAccessRequest {
        bundle,
        controller,
        action,
        ..
    } = list_users_request(words);
    pb::CheckAccessRequest {
        user_id: user_id.into(),
        bundle,
        controller,
        action,
        min_revision: 0,
    }
}

fn list_users_request(words: &str) -> pb::ListUsersWithAccessRequest {
    let words: Vec<_> = words.split(' ').map(str::to_owned).collect();
    let [bundle, controller, action] = &words[..] else {
        panic!("{words:?}")
    };
    pb::ListUsersWithAccessRequest {
        bundle: bundle.clone(),
        controller: controller.clone(),
        action: action.clone(),
        ..Default::default()
    }
}
