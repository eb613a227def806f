//! Cached responses are never wrong: each one is compared with the history at the revision that it names.
//!
//! To check that this test is effective, remove an invalidation from `Cache::remove` (src/store/cache.rs): it must
//! fail.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
};

use group_service::{
    pb::{
        self, Cause, ChangeKind, Effect, access_service_client::AccessServiceClient,
        group_service_client::GroupServiceClient, role_service_client::RoleServiceClient,
        user_service_client::UserServiceClient, value::Value,
    },
    store::{Location, Settings},
};
use sea_orm::DbBackend;
use tokio::task::JoinSet;
use tonic::{Code, Status, transport::Channel};

use crate::{
    access::{allow, deny},
    change_replay::replay,
    group::{create, update},
    harness::{Database, TestServer, engine, print_uncaptured},
    member::{assign, unassign},
};

/// The number of responses that are compared with the history, for each cache size and number of instances.
const ANSWERS: usize = 70_000;
/// The minimum number of revisions written meanwhile.
const REVISIONS: i64 = 200;
/// Cache sizes in bytes: disabled, tiny, and large enough for everything.
const SIZES: [u64; 3] = [0, 2 << 10, 128 << 20];
const ACTIONS: [&str; 4] = ["view", "edit", "print", "delete"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cached_responses_match_their_revision_on_one_instance() {
    for size in SIZES {
        verify_against_history(size, 1).await;
    }
}

/// Not on SQLite, which supports one instance only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cached_responses_match_their_revision_on_two_instances() {
    if engine() == DbBackend::Sqlite {
        return;
    }
    for size in SIZES {
        verify_against_history(size, 2).await;
    }
}

/// The content of a response.
enum Answer {
    Check(String, &'static str, pb::Answer),
    Group(pb::Group),
    Roles(String, Vec<pb::Role>),
    RolesOfUser(String, Vec<pb::RoleOfUser>),
}

struct SharedState {
    roles: Vec<String>,
    groups: Vec<String>,
    users: Vec<String>,
    acknowledged: AtomicI64,
    answered: AtomicUsize,
    answers: Mutex<Vec<(i64, Answer)>>,
}

async fn verify_against_history(cache_bytes: u64, instances: usize) {
    let database = Arc::new(Database::create().await);
    let settings = Settings {
        cache_bytes,
        ..Settings::new(Location::parse(database.url()).expect("a URL"))
    };
    let mut worlds = Vec::new();
    for _ in 0..instances {
        worlds.push(TestServer::with(database.clone(), settings.clone()).await);
    }
    let shared = Arc::new(create_directory(&worlds[0]).await);
    let mut callers = JoinSet::new();
    for (test_server, seed) in worlds.iter().zip(0..) {
        callers.spawn(write_randomly(
            test_server.channel.clone(),
            shared.clone(),
            seed * 1000,
        ));
        for reader in 1..=4 {
            let asked = read_randomly(
                test_server.channel.clone(),
                shared.clone(),
                seed * 1000 + reader,
            );
            callers.spawn(asked);
        }
    }
    while let Some(caller) = callers.join_next().await {
        caller.expect("nobody is told anything wrong");
    }

    let (_, changes) = replay(&worlds[0].channel, 0).await;
    let mut answers = std::mem::take(&mut *shared.answers.lock().expect("no panic"));
    answers.sort_by_key(|(revision, _)| *revision);
    let mut changes = changes.iter().peekable();
    let mut state = State::default();
    for (revision, answer) in &answers {
        while let Some(change) = changes.next_if(|change| change.revision <= *revision) {
            state.apply(change);
        }
        state.check(*revision, answer);
    }
    let counts: Vec<_> = worlds
        .iter()
        .map(|test_server| test_server.db.cache_counts())
        .collect();
    let recalled: u64 = counts.iter().map(|counts| counts.hits).sum();
    assert_eq!(recalled > 0, cache_bytes > 0, "{counts:?}");
    print_uncaptured(&format!(
        "{cache_bytes} bytes, {instances} instances: {} answers right, {counts:?}",
        shared.answered.load(Ordering::Relaxed)
    ));
}

async fn create_directory(test_server: &TestServer) -> SharedState {
    let roles = test_server.many_roles("role", 4).await;
    let users = test_server.many_users("user", 6).await;
    let mut groups = Vec::new();
    for (number, role) in roles.iter().enumerate() {
        groups.push(
            test_server
                .group(&format!("group {number}"), &[role])
                .await
                .id,
        );
    }
    SharedState {
        roles,
        groups,
        users,
        acknowledged: AtomicI64::new(0),
        answered: AtomicUsize::new(0),
        answers: Mutex::default(),
    }
}

impl SharedState {
    fn is_running(&self) -> bool {
        self.answered.load(Ordering::Relaxed) < ANSWERS
            || self.acknowledged.load(Ordering::Relaxed) < REVISIONS
    }
}

/// The next pseudo-random number (linear congruential generator).
fn next(random: &mut usize) -> usize {
    *random = random
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *random >> 33
}

fn pick<'a>(random: &mut usize, of: &'a [String]) -> &'a str {
    &of[next(random) % of.len()]
}

/// Makes random changes to everything that responses depend on.
async fn write_randomly(channel: Channel, shared: Arc<SharedState>, seed: usize) {
    let mut groups = GroupServiceClient::new(channel.clone());
    let mut roles = RoleServiceClient::new(channel.clone());
    let mut users = UserServiceClient::new(channel);
    let mut random = seed;
    while shared.is_running() {
        let group = pick(&mut random, &shared.groups);
        let role = pick(&mut random, &shared.roles);
        let user = pick(&mut random, &shared.users);
        let number = next(&mut random);
        let action = ACTIONS[number % 4];
        let rule = match number % 3 {
            0 => deny("shop", "order", action),
            1 => allow("shop", "*", action),
            _ => allow("shop", "order", action),
        };
        let revision = match next(&mut random) % 10 {
            0..3 => groups
                .assign_user(assign(group, user))
                .await
                .map(|done| done.into_inner().revision),
            3..5 => groups
                .unassign_user(unassign(group, user))
                .await
                .map(|done| done.into_inner().revision),
            5 => {
                let request = if number.is_multiple_of(2) {
                    pb::UpdateGroupRequest {
                        add_role_ids: vec![role.into()],
                        ..update(group)
                    }
                } else {
                    pb::UpdateGroupRequest {
                        remove_role_ids: vec![role.into()],
                        ..update(group)
                    }
                };
                groups
                    .update_group(request)
                    .await
                    .map(|done| done.into_inner().revision)
            }
            6 => {
                let title = Some(format!("group {}", number % 50));
                let request = pb::UpdateGroupRequest {
                    title,
                    ..update(group)
                };
                groups
                    .update_group(request)
                    .await
                    .map(|done| done.into_inner().revision)
            }
            7 => {
                let request = pb::UpdateUserRequest {
                    user_id: user.into(),
                    status: Some(1 + i32::from(number.is_multiple_of(4))),
                    ..Default::default()
                };
                users
                    .update_user(request)
                    .await
                    .map(|done| done.into_inner().revision)
            }
            _ => {
                let mut request = pb::UpdateRoleRequest {
                    role_id: role.into(),
                    ..Default::default()
                };
                match number % 5 {
                    0 => request.name = Some(format!("role {}", number % 50)),
                    1 | 2 => request.add_rules = vec![rule],
                    _ => request.remove_rules = vec![rule],
                }
                roles
                    .update_role(request)
                    .await
                    .map(|done| done.into_inner().revision)
            }
        };
        match revision {
            Ok(revision) => drop(shared.acknowledged.fetch_max(revision, Ordering::SeqCst)),
            Err(status) => assert_expected_error(&status),
        }
        // Cache hits need some time without a change.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    // A last write, so that no reader waits for a revision that doesn't come.
    let title = format!("the end {seed}");
    let request = create(&title, &[&shared.roles[0]]);
    groups.create_group(request).await.expect("created");
}

fn assert_expected_error(status: &Status) {
    let codes = [
        Code::NotFound,
        Code::AlreadyExists,
        Code::FailedPrecondition,
    ];
    assert!(codes.contains(&status.code()), "{status:?}");
}

async fn read_randomly(channel: Channel, shared: Arc<SharedState>, seed: usize) {
    let mut access = AccessServiceClient::new(channel.clone());
    let mut groups = GroupServiceClient::new(channel.clone());
    let mut users = UserServiceClient::new(channel);
    let mut random = seed;
    while shared.is_running() {
        let wanted = shared.acknowledged.load(Ordering::SeqCst);
        let min_revision = if next(&mut random).is_multiple_of(2) {
            wanted
        } else {
            0
        };
        let group_id = pick(&mut random, &shared.groups).to_owned();
        let mut answers = Vec::new();
        let revision = match next(&mut random) % 6 {
            0 => {
                let request = pb::GetGroupRequest {
                    group_id,
                    min_revision,
                };
                let got = groups.get_group(request).await.expect("got").into_inner();
                answers.push(Answer::Group(got.group.expect("a group")));
                got.revision
            }
            1 => {
                let request = pb::ListRolesInGroupRequest {
                    group_id: group_id.clone(),
                    min_revision,
                    ..Default::default()
                };
                let listed = groups.list_roles_in_group(request).await;
                let listed = listed.expect("listed").into_inner();
                answers.push(Answer::Roles(group_id, listed.roles));
                listed.revision
            }
            2 => {
                let user_id = pick(&mut random, &shared.users).to_owned();
                let request = pb::ListRolesOfUserRequest {
                    user_id: user_id.clone(),
                    min_revision,
                    ..Default::default()
                };
                let listed = users.list_roles_of_user(request).await;
                let listed = listed.expect("listed").into_inner();
                answers.push(Answer::RolesOfUser(user_id, listed.roles));
                listed.revision
            }
            _ => {
                let asked: Vec<_> = (0..100)
                    .map(|_| {
                        let user = pick(&mut random, &shared.users).to_owned();
                        (user, ACTIONS[next(&mut random) % 4])
                    })
                    .collect();
                let questions = asked.iter().map(|(user, action)| pb::Question {
                    user_id: user.clone(),
                    bundle: "shop".into(),
                    controller: "order".into(),
                    action: (*action).into(),
                });
                let request = pb::BatchCheckAccessRequest {
                    questions: questions.collect(),
                    min_revision,
                };
                let decided = access.batch_check_access(request).await;
                let decided = decided.expect("decided").into_inner();
                let reported = asked.into_iter().zip(decided.answers);
                answers.extend(
                    reported.map(|((user, action), answer)| Answer::Check(user, action, answer)),
                );
                decided.revision
            }
        };
        assert!(
            revision >= min_revision,
            "stale: {revision} for {min_revision}"
        );
        shared.answered.fetch_add(answers.len(), Ordering::Relaxed);
        let answers = answers.into_iter().map(|answer| (revision, answer));
        shared.answers.lock().expect("no panic").extend(answers);
    }
}

/// The state at a revision that responses are computed from.
#[derive(Default)]
struct State {
    groups: BTreeMap<String, (String, BTreeSet<String>, BTreeSet<String>)>,
    roles: BTreeMap<String, (String, Vec<pb::Rule>)>,
    blocked: BTreeSet<String>,
}

impl State {
    fn apply(&mut self, change: &pb::Change) {
        let id = |subject: &Option<pb::Subject>| subject.as_ref().map(|subject| subject.id.clone());
        let value =
            |value: &Option<pb::Value>| value.as_ref().and_then(|value| value.value.clone());
        let group = self
            .groups
            .entry(id(&change.group).unwrap_or_default())
            .or_default();
        let role_id = id(&change.role).unwrap_or_default();
        let user = id(&change.user).unwrap_or_default();
        match (change.kind(), value(&change.before), value(&change.after)) {
            (ChangeKind::GroupCreated | ChangeKind::GroupRenamed, _, Some(Value::Name(title))) => {
                group.0 = title;
            }
            (ChangeKind::RoleAssigned, ..) => drop(group.1.insert(role_id)),
            (ChangeKind::RoleRemoved, ..) => drop(group.1.remove(&role_id)),
            (ChangeKind::UserAssigned, ..) => drop(group.2.insert(user)),
            (ChangeKind::UserUnassigned, ..) => drop(group.2.remove(&user)),
            (ChangeKind::RoleCreated | ChangeKind::RoleRenamed, _, Some(Value::Name(name))) => {
                self.roles.entry(role_id).or_default().0 = name;
            }
            (ChangeKind::RuleAdded, _, Some(Value::Rule(rule))) => {
                self.roles.entry(role_id).or_default().1.push(rule);
            }
            (ChangeKind::RuleRemoved, Some(Value::Rule(rule)), _) => {
                self.roles
                    .entry(role_id)
                    .or_default()
                    .1
                    .retain(|other| *other != rule);
            }
            (ChangeKind::UserBlocked, ..) => drop(self.blocked.insert(user)),
            (ChangeKind::UserUnblocked, ..) => drop(self.blocked.remove(&user)),
            (ChangeKind::UserCreated, ..) => {}
            (kind, ..) => panic!("{kind:?} doesn't happen here"),
        }
    }

    fn check(&self, revision: i64, answer: &Answer) {
        match answer {
            Answer::Check(user, action, answer) => {
                let reported = answer.grant.as_ref().map(|grant| {
                    let role = grant.role.clone().expect("a role");
                    let group = grant.group.clone().expect("a group");
                    (
                        grant.rule.clone().expect("a rule"),
                        (role.id, role.name),
                        (group.id, group.title),
                    )
                });
                let expected = self.decide(user, action);
                assert_eq!(
                    (answer.cause(), reported),
                    expected,
                    "{user} {action} at {revision}"
                );
            }
            Answer::Group(group) => {
                let (title, roles, users) = &self.groups[&group.id];
                let named = roles
                    .iter()
                    .map(|id| (id.clone(), self.roles[id].0.clone()));
                let reported = group
                    .roles
                    .iter()
                    .map(|role| (role.id.clone(), role.name.clone()));
                assert_eq!(group.title, *title, "{} at {revision}", group.id);
                assert_eq!(
                    reported.collect::<BTreeSet<_>>(),
                    named.collect(),
                    "{} at {revision}",
                    group.id
                );
                assert_eq!(
                    group.user_count,
                    users.len() as i64,
                    "{} at {revision}",
                    group.id
                );
            }
            Answer::Roles(group_id, roles) => {
                let reported: BTreeSet<_> = roles.iter().map(|role| role.id.clone()).collect();
                assert_eq!(
                    reported, self.groups[group_id].1,
                    "{group_id} at {revision}"
                );
                for role in roles {
                    self.check_role(revision, role);
                }
            }
            Answer::RolesOfUser(user, roles) => {
                let reported = roles.iter().map(|of_user| {
                    let role = of_user.role.as_ref().expect("a role");
                    self.check_role(revision, role);
                    let groups = of_user.groups.iter();
                    let groups = groups.map(|group| (group.id.clone(), group.title.clone()));
                    (role.id.clone(), groups.collect::<BTreeSet<_>>())
                });
                let mut given: BTreeMap<String, BTreeSet<_>> = BTreeMap::new();
                for (id, (title, roles, users)) in &self.groups {
                    for role in roles.iter().filter(|_| users.contains(user)) {
                        let groups = given.entry(role.clone()).or_default();
                        groups.insert((id.clone(), title.clone()));
                    }
                }
                assert_eq!(
                    reported.collect::<BTreeMap<_, _>>(),
                    given,
                    "{user} at {revision}"
                );
            }
        }
    }

    fn check_role(&self, revision: i64, role: &pb::Role) {
        let (name, rules) = &self.roles[&role.id];
        let groups = self.groups.values();
        let groups = groups.filter(|group| group.1.contains(&role.id)).count() as i64;
        assert_eq!(role.name, *name, "{} at {revision}", role.id);
        assert_eq!(role.group_count, groups, "{} at {revision}", role.id);
        let texts = |rules: &[pb::Rule]| -> BTreeSet<_> {
            rules.iter().map(|rule| format!("{rule:?}")).collect()
        };
        assert_eq!(
            texts(&role.rules),
            texts(rules),
            "{} at {revision}",
            role.id
        );
    }

    /// The access decision, implemented as simply as the contract states it.
    #[expect(clippy::type_complexity, reason = "what an answer consists of")]
    fn decide(
        &self,
        user: &str,
        action: &str,
    ) -> (
        Cause,
        Option<(pb::Rule, (String, String), (String, String))>,
    ) {
        if self.blocked.contains(user) {
            return (Cause::UserBlocked, None);
        }
        let mut matching = Vec::new();
        for (group_id, (title, roles, users)) in &self.groups {
            for role_id in roles.iter().filter(|_| users.contains(user)) {
                let (name, rules) = &self.roles[role_id];
                for rule in rules {
                    let any = rule.controller == "*";
                    if rule.action == action {
                        let order = (rule.effect() != Effect::Deny, any, role_id, group_id);
                        matching.push((order, rule, name, title));
                    }
                }
            }
        }
        matching.sort_by_key(|(order, ..)| *order);
        let Some((order, rule, name, title)) = matching.first() else {
            return (Cause::NoRule, None);
        };
        let cause = if order.0 {
            Cause::AllowRule
        } else {
            Cause::DenyRule
        };
        let (role, group) = (order.2.clone(), order.3.clone());
        let grant = (
            (*rule).clone(),
            (role, (*name).clone()),
            (group, (*title).clone()),
        );
        (cause, Some(grant))
    }
}
