//! The indexed lists, searches and counts for large directories, tested on a small one: their results match a
//! simple model.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{SystemTime, UNIX_EPOCH},
};

use group_service::{
    domain::{Name, PersonName, SearchQuery, SearchText},
    pb,
    store::{Location, Settings},
};
use sea_orm::{ConnectionTrait, DbBackend};

use crate::{
    crash::assert_consistent,
    harness::{TestServer, engine, unknown_id},
    member::users_in,
    settings::output,
};

/// Parts of names: some contain others; longer and shorter than three characters (a trigram); non-ASCII; with SQL
/// wildcards.
const PARTS: [&str; 16] = [
    "team",
    "Tea",
    "te",
    "100%",
    "10",
    "_a_",
    "Straße",
    "ﬁx",
    "日本語",
    "😀😀",
    "\"quoted\"",
    "o'b",
    "!x!",
    "\\",
    "Ärger",
    "AND",
];
/// Queries: within parts, across parts, without a match, and empty.
const QUERIES: [&str; 24] = [
    "",
    "t",
    "te",
    "TEA",
    "team",
    "m t",
    "0%",
    "100%",
    "_a_",
    "a_ ",
    "strasse",
    "FIX",
    "日本",
    "日本語",
    "😀",
    "😀😀",
    "\"quo",
    "o'b",
    "!x!",
    "x! \\",
    "absent",
    "% _",
    "tea strasse",
    "ea 100 m",
];

#[derive(Default)]
struct Model {
    groups: BTreeMap<String, Group>,
    users: BTreeMap<String, User>,
    roles: BTreeMap<String, String>,
}

struct Group {
    title: String,
    created: (i64, i32),
    roles: BTreeSet<String>,
    users: BTreeSet<String>,
}

struct User {
    username: String,
    first: String,
    last: String,
    blocked: bool,
}

/// A reproducible random number generator (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn of<'a, T>(&mut self, all: &'a BTreeMap<String, T>) -> Option<&'a String> {
        if all.is_empty() {
            return None;
        }
        let index = self.below(all.len());
        all.keys().nth(index)
    }

    fn name(&mut self) -> String {
        let parts: Vec<_> = (0..=self.below(3))
            .map(|_| PARTS[self.below(PARTS.len())])
            .collect();
        format!("{} {}", parts.join(" "), self.below(1000))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lists_searches_and_counts_match_reference_model() {
    let mut test_server = TestServer::start().await;
    let mut model = Model::default();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    for _ in 0..6 {
        let name = random.name();
        let role = test_server.role(&name).await;
        model.roles.insert(role.id, role.name);
    }
    // More members in one group than are scanned without the search index.
    let role = model.roles.keys().next().expect("a role").clone();
    let group = test_server.group("everybody", &[&role]).await;
    for _ in 0..60 {
        let user = test_server.user(&format!("{} u", random.name())).await;
        test_server.assign(&group.id, &user.id).await;
        model.users.insert(user.id.clone(), known(user));
    }
    let time = group.create_time.expect("a time");
    let everybody = Group {
        title: group.title,
        created: (time.seconds, time.nanos),
        roles: BTreeSet::from([role]),
        users: model.users.keys().cloned().collect(),
    };
    model.groups.insert(group.id, everybody);
    for round in 0..2 {
        for _ in 0..150 {
            step(&mut test_server, &mut model, &mut random).await;
        }
        check(&mut test_server, &model, round).await;
    }
    if engine() == DbBackend::Postgres {
        // Searches also work without the index.
        let db = test_server.database.connect().await;
        let dropped = db
            .execute_unprepared("DROP EXTENSION pg_trgm CASCADE")
            .await;
        dropped.expect("dropped");
        check(&mut test_server, &model, 2).await;
    }
    assert_consistent(&test_server.database).await;
    assert!(
        model.groups.len() > 20 && model.users.len() > 20,
        "there is something to list"
    );
}

async fn step(w: &mut TestServer, model: &mut Model, random: &mut Random) {
    match random.below(12) {
        0..=1 => {
            let mut roles = BTreeSet::new();
            for _ in 0..=random.below(3) {
                roles.extend(random.of(&model.roles).cloned());
            }
            let request = pb::CreateGroupRequest {
                title: random.name(),
                role_ids: roles.iter().cloned().collect(),
                ..Default::default()
            };
            // Fails if the title is taken.
            if let Ok(created) = w.groups.create_group(request).await {
                let group = created.into_inner().group.expect("a group");
                let time = group.create_time.expect("a time");
                let known = Group {
                    title: group.title,
                    created: (time.seconds, time.nanos),
                    roles,
                    users: BTreeSet::new(),
                };
                model.groups.insert(group.id, known);
            }
        }
        2..=3 => {
            let request = pb::CreateUserRequest {
                username: random.name(),
                first_name: PARTS[random.below(PARTS.len())].into(),
                last_name: PARTS[random.below(PARTS.len())].into(),
                ..Default::default()
            };
            if let Ok(created) = w.users.create_user(request).await {
                let user = created.into_inner().user.expect("a user");
                model.users.insert(user.id.clone(), known(user));
            }
        }
        4 => {
            let Some(id) = random.of(&model.groups).cloned() else {
                return;
            };
            let role = random.of(&model.roles).cloned().expect("there are roles");
            let group = model.groups.get_mut(&id).expect("known");
            let request = pb::UpdateGroupRequest {
                group_id: id,
                title: Some(random.name()),
                add_role_ids: vec![role.clone()],
                ..Default::default()
            };
            if let Ok(updated) = w.groups.update_group(request).await {
                group.title = updated.into_inner().group.expect("a group").title;
                group.roles.insert(role);
            }
        }
        5 => {
            let Some(id) = random.of(&model.users).cloned() else {
                return;
            };
            let request = pb::UpdateUserRequest {
                user_id: id.clone(),
                username: Some(random.name()),
                last_name: Some(PARTS[random.below(PARTS.len())].into()),
                status: Some(1 + random.below(2) as i32),
                ..Default::default()
            };
            if let Ok(updated) = w.users.update_user(request).await {
                let user = updated.into_inner().user.expect("a user");
                model.users.insert(id, known(user));
            }
        }
        6 if random.below(3) == 0 => {
            let Some(id) = random.of(&model.groups).cloned() else {
                return;
            };
            let request = pb::DeleteGroupRequest {
                group_id: id.clone(),
                ..Default::default()
            };
            w.groups.delete_group(request).await.expect("deleted");
            model.groups.remove(&id);
        }
        7 if random.below(3) == 0 => {
            let Some(id) = random.of(&model.users).cloned() else {
                return;
            };
            let request = pb::DeleteUserRequest {
                user_id: id.clone(),
                ..Default::default()
            };
            w.users.delete_user(request).await.expect("deleted");
            model.users.remove(&id);
            model.groups.values_mut().for_each(|group| {
                group.users.remove(&id);
            });
        }
        8 => {
            let Some(id) = random.of(&model.roles).cloned() else {
                return;
            };
            let request = pb::UpdateRoleRequest {
                role_id: id.clone(),
                name: Some(random.name()),
                ..Default::default()
            };
            if let Ok(updated) = w.roles.update_role(request).await {
                model
                    .roles
                    .insert(id, updated.into_inner().role.expect("a role").name);
            }
        }
        9 => {
            let Some(id) = random.of(&model.groups).cloned() else {
                return;
            };
            let Some(user) = random.of(&model.users).cloned() else {
                return;
            };
            let request = pb::UnassignUserRequest {
                group_id: id.clone(),
                user_id: user.clone(),
                allow_missing: true,
                ..Default::default()
            };
            w.groups.unassign_user(request).await.expect("unassigned");
            model
                .groups
                .get_mut(&id)
                .expect("known")
                .users
                .remove(&user);
        }
        _ => {
            let Some(id) = random.of(&model.groups).cloned() else {
                return;
            };
            let mut users = BTreeSet::new();
            for _ in 0..5 {
                users.extend(random.of(&model.users).cloned());
            }
            if users.is_empty() {
                return;
            }
            let request = pb::BatchAssignUsersRequest {
                group_id: id.clone(),
                user_ids: users.iter().cloned().collect(),
                ..Default::default()
            };
            w.groups
                .batch_assign_users(request)
                .await
                .expect("assigned");
            model
                .groups
                .get_mut(&id)
                .expect("known")
                .users
                .extend(users);
        }
    }
}

fn known(user: pb::User) -> User {
    User {
        blocked: user.status() == pb::UserStatus::Blocked,
        username: user.username,
        first: user.first_name,
        last: user.last_name,
    }
}

fn name(text: &str) -> Name {
    Name::parse(text).expect("a name")
}

fn contains(text: &SearchText, query: &str) -> bool {
    let query = SearchQuery::parse(query).expect("a query");
    query.is_none_or(|query| {
        let mut words = query.words().iter();
        words.all(|word| text.as_str().contains(word))
    })
}

impl User {
    fn contains(&self, query: &str) -> bool {
        let words = |text: &str| PersonName::parse(text).expect("words");
        let text = SearchText::user(
            &name(&self.username),
            &words(&self.first),
            &words(&self.last),
        );
        contains(&text, query)
    }
}

impl Model {
    fn users(&self, wanted: impl Fn(&String, &User) -> bool) -> Vec<String> {
        let mut users: Vec<_> = self
            .users
            .iter()
            .filter(|(id, user)| wanted(id, user))
            .collect();
        users.sort_by_key(|(id, user)| (name(&user.username).sort_key(), (*id).clone()));
        users.into_iter().map(|(id, _)| id.clone()).collect()
    }

    fn groups(&self, order: &str, wanted: impl Fn(&Group) -> bool) -> Vec<String> {
        let mut groups: Vec<_> = self
            .groups
            .iter()
            .filter(|(_, group)| wanted(group))
            .collect();
        groups.sort_by_key(|(id, group)| {
            let by_title = order.starts_with("title");
            let title = by_title.then(|| name(&group.title).sort_key());
            (title, (!by_title).then_some(group.created), (*id).clone())
        });
        if order.ends_with("desc") {
            groups.reverse();
        }
        groups.into_iter().map(|(id, _)| id.clone()).collect()
    }
}

async fn check(w: &mut TestServer, model: &Model, round: usize) {
    for (number, query) in QUERIES.into_iter().enumerate() {
        let matching = model.users(|_, user| user.contains(query));
        assert_eq!(users(w, query, 0).await, matching, "{query:?}");
        let blocked = model.users(|_, user| user.blocked && user.contains(query));
        assert_eq!(users(w, query, 2).await, blocked, "{query:?}");
        let mut roles: Vec<_> = model.roles.iter().collect();
        roles.retain(|(_, role)| contains(&SearchText::name(&name(role)), query));
        roles.sort_by_key(|(id, role)| (name(role).sort_key(), (*id).clone()));
        let roles: Vec<_> = roles.into_iter().map(|(id, _)| id.clone()).collect();
        let request = pb::ListRolesRequest {
            query: query.into(),
            ..Default::default()
        };
        let listed = w
            .roles
            .list_roles(request)
            .await
            .expect("listed")
            .into_inner();
        let listed: Vec<_> = listed.roles.into_iter().map(|role| role.id).collect();
        assert_eq!(listed, roles, "{query:?}");

        // Only some combinations in each round.
        let absent = unknown_id();
        let some = |ids: Vec<&String>| {
            ids.get((number + round) % ids.len().max(1))
                .map_or(absent.clone(), |id| (*id).clone())
        };
        let user = some(model.users.keys().collect());
        let role = some(model.roles.keys().collect());
        for (user, role) in [
            ("", ""),
            ("", &role),
            (&user, ""),
            (&user, &role),
            (&absent, ""),
        ] {
            for order in ["title", "title desc", "create_time", "create_time desc"] {
                let wanted = model.groups(order, |group| {
                    (user.is_empty() || group.users.contains(user))
                        && (role.is_empty() || group.roles.contains(role))
                        && contains(&SearchText::name(&name(&group.title)), query)
                });
                let request = pb::ListGroupsRequest {
                    query: query.into(),
                    role_id: role.into(),
                    user_id: user.into(),
                    order_by: order.into(),
                    page_size: 7,
                    with_total_size: true,
                    ..Default::default()
                };
                let what = format!("{query:?}, {order}, user {user:?}, role {role:?}");
                assert_eq!(groups(w, request).await, wanted, "{what}");
            }
        }
        for (id, group) in model.groups.iter().skip(number % 4).step_by(4) {
            let wanted =
                model.users(|user, known| group.users.contains(user) && known.contains(query));
            assert_eq!(members(w, id, query).await, wanted, "{query:?}");
        }
    }
}

async fn users(w: &mut TestServer, query: &str, status: i32) -> Vec<String> {
    let mut ids = Vec::new();
    let mut request = pb::ListUsersRequest {
        query: query.into(),
        status,
        page_size: 7,
        ..Default::default()
    };
    loop {
        let page = w
            .users
            .list_users(request.clone())
            .await
            .expect("listed")
            .into_inner();
        ids.extend(page.users.into_iter().map(|user| user.id));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return ids;
        }
    }
}

async fn groups(w: &mut TestServer, mut request: pb::ListGroupsRequest) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let page = w
            .groups
            .list_groups(request.clone())
            .await
            .expect("listed")
            .into_inner();
        ids.extend(page.groups.into_iter().map(|group| group.id));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            assert_eq!(page.total_size, Some(ids.len() as i64), "{request:?}");
            return ids;
        }
    }
}

async fn members(w: &mut TestServer, group: &str, query: &str) -> Vec<String> {
    let mut ids = Vec::new();
    let mut request = pb::ListUsersInGroupRequest {
        query: query.into(),
        page_size: 3,
        with_total_size: true,
        ..users_in(group)
    };
    loop {
        let page = w.groups.list_users_in_group(request.clone()).await;
        let page = page.expect("listed").into_inner();
        ids.extend(page.users.into_iter().map(|user| user.id));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            assert_eq!(page.total_size, Some(ids.len() as i64), "{request:?}");
            return ids;
        }
    }
}

/// Times are in revision order unless a clock was set back or another instance's clock is ahead; filters by time
/// must find all changes even then.
#[tokio::test]
async fn changes_are_found_by_time_despite_clock_jumps() {
    let mut test_server = TestServer::start().await;
    for number in 0..40 {
        test_server.role(&format!("role {number}")).await;
    }
    test_server.stop().await;
    let database = test_server.database.clone();
    let db = database.connect().await;
    let execute = async |sql: &str| {
        db.execute_unprepared(sql).await.expect("done");
    };
    // Simulates changes of an earlier version: the migration measures how far times are out of order.
    execute("UPDATE changes SET time = 1760000000000000 + (revision * 7919) % 41 * 1000000").await;
    for step in ["down", "down", "down", "down", "up"] {
        let arguments = ["migrate", step, "--database-url", database.url()];
        assert!(output(&arguments, &[]).await.status.success());
    }
    let settings = Settings::new(Location::parse(database.url()).expect("a URL"));
    let mut test_server = TestServer::with(database.clone(), settings).await;
    windows(&mut test_server, 1_760_000_000).await;

    test_server.role("now").await;
    let hour = 3_600_000_000_i64;
    // Simulates a last write by an instance with a clock an hour ahead.
    execute(&format!(
        "UPDATE changes SET time = time + {hour} WHERE revision = 41"
    ))
    .await;
    execute(&format!(
        "UPDATE directory SET latest_time = latest_time + {hour}"
    ))
    .await;
    for number in 0..5 {
        test_server.role(&format!("late role {number}")).await;
    }
    windows(&mut test_server, 1_760_000_000).await;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let now = i64::try_from(now.as_secs()).expect("in range");
    windows(&mut test_server, now - 20).await;
    windows(&mut test_server, now + 3580).await;
}

/// Checks that filters for some time ranges in the minute from `start` (in seconds) return the same changes as
/// filtering the whole list.
async fn windows(w: &mut TestServer, start: i64) {
    let all = of_time(w, None, None, "revision").await;
    for (from, to) in [
        (0, 60),
        (0, 1),
        (7, 12),
        (20, 21),
        (39, 41),
        (40, 60),
        (50, 51),
        (-9, 0),
    ] {
        let (from, to) = (start + from, start + to);
        for (from, to) in [(Some(from), Some(to)), (Some(from), None), (None, Some(to))] {
            let wanted = all.iter().filter(|(_, time)| {
                from.is_none_or(|from| *time >= (from, 0)) && to.is_none_or(|to| *time < (to, 0))
            });
            let mut wanted: Vec<_> = wanted.cloned().collect();
            assert_eq!(
                of_time(w, from, to, "revision").await,
                wanted,
                "{from:?} {to:?}"
            );
            wanted.reverse();
            assert_eq!(
                of_time(w, from, to, "revision desc").await,
                wanted,
                "{from:?} {to:?}"
            );
        }
    }
}

/// The revisions and times of the changes between two times.
async fn of_time(
    w: &mut TestServer,
    from: Option<i64>,
    to: Option<i64>,
    order_by: &str,
) -> Vec<(i64, (i64, i32))> {
    let time = |seconds| prost_types::Timestamp { seconds, nanos: 0 };
    let mut request = pb::ListChangesRequest {
        page_size: 5,
        order_by: order_by.into(),
        filter: Some(pb::ChangeFilter {
            start_time: from.map(time),
            end_time: to.map(time),
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut found = Vec::new();
    loop {
        let page = w.changes.list_changes(request.clone()).await;
        let page = page.expect("listed").into_inner();
        found.extend(page.changes.into_iter().map(|change| {
            let time = change.time.expect("a time");
            (change.revision, (time.seconds, time.nanos))
        }));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return found;
        }
    }
}
