//! Staleness: responses of an instance never go back, and are at most `--max-staleness` old. Waiting for a
//! revision, and catching up with changes, hold no connection that calls need.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use group_service::{
    pb::{self, Decision, access_service_client::AccessServiceClient},
    store::{Location, Settings},
};
use prometheus_client::{encoding::text::encode, registry::Registry};
use sea_orm::{ConnectionTrait, DbBackend, TransactionTrait};
use tokio::{process::Command, task::JoinSet, time::timeout};
use tonic::{Code, Request, Status, transport::Channel};

use crate::{
    access::{allow, check},
    harness::{Database, Process, TestServer, binary, engine, servers::Postgres, skip_test},
    member::unassign,
};

/// Short enough for a test to wait for.
const MAX_STALENESS: Duration = Duration::from_secs(1);
const ACCESS_TRIPLE: &str = "shop orders refund";

fn settings(url: &str) -> Settings {
    Settings::new(Location::parse(url).expect("a URL"))
}

/// The number of statements executed for calls.
fn statements(test_server: &TestServer) -> u64 {
    let mut registry = Registry::default();
    for (operation, durations) in test_server.db.statements().all() {
        registry.register(operation, "", durations.clone());
    }
    let mut text = String::new();
    encode(&mut text, &registry).expect("encoded");
    let counts = text.lines().filter_map(|line| line.split_once("_count "));
    counts
        .map(|(_, count)| count.parse::<u64>().expect("a number"))
        .sum()
}

async fn list_roles(test_server: &TestServer, min_revision: i64) -> Result<i64, Status> {
    let request = pb::ListRolesRequest {
        min_revision,
        ..Default::default()
    };
    let listed = test_server.roles.clone().list_roles(request).await?;
    Ok(listed.into_inner().revision)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_a_revision_does_not_query_the_database() {
    let test_server = Arc::new(TestServer::start().await);
    let before = statements(&test_server);
    let mut waiting = JoinSet::new();
    for _ in 0..100 {
        let test_server = test_server.clone();
        waiting.spawn(async move { list_roles(&test_server, 1_000_000).await });
    }
    for answer in waiting.join_all().await {
        let status = answer.expect_err("the revision was never given");
        assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    }
    assert_eq!(statements(&test_server), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn min_revision_waiters_are_limited_and_counted() {
    let database = Database::create().await;
    let settings = Settings {
        max_queue: 10,
        ..settings(database.url())
    };
    let test_server = Arc::new(TestServer::with(database.into(), settings).await);
    let mut waiting = JoinSet::new();
    for _ in 0..30 {
        let test_server = test_server.clone();
        waiting.spawn(async move { list_roles(&test_server, 1_000_000).await });
    }
    // Further calls are rejected while these wait.
    for _ in 0..20 {
        let refused = waiting.join_next().await.expect("one more");
        let status = refused.expect("no panic").expect_err("refused");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    }
    assert_eq!(test_server.db.revision_waiters(), (10, 20));
    // Reads that needn't wait succeed.
    list_roles(&test_server, 0).await.expect("listed");
    for answer in waiting.join_all().await {
        let status = answer.expect_err("the revision was never given");
        assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    }
    assert_eq!(test_server.db.revision_waiters(), (0, 20));
}

/// Cache hits and database reads alternate while another instance writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_of_an_instance_never_go_back_in_time() {
    let database = Arc::new(Database::create().await);
    let writer = TestServer::with(database.clone(), settings(database.url())).await;
    let other = if engine() == DbBackend::Sqlite {
        None
    } else {
        Some(TestServer::with(database.clone(), settings(database.url())).await)
    };
    let reader = other.as_ref().unwrap_or(&writer);
    let role = writer.role("A").await.id;
    let group = writer.group("Team", &[&role]).await.id;
    let over = Arc::new(AtomicBool::new(false));
    let writing = tokio::spawn({
        let (over, mut users) = (over.clone(), writer.users.clone());
        async move {
            for number in 0.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let request = pb::CreateUserRequest {
                    username: format!("user {number}"),
                    ..Default::default()
                };
                users.create_user(request).await.expect("created");
            }
        }
    });
    let mut latest = 0;
    for round in 0..300 {
        let get = pb::GetGroupRequest {
            group_id: group.clone(),
            ..Default::default()
        };
        let listed = list_roles(reader, 0).await.expect("listed");
        assert!(listed >= latest, "round {round}: {latest}, then {listed}");
        let got = reader.groups.clone().get_group(get.clone()).await;
        let got = got.expect("there").into_inner().revision;
        assert!(got >= listed, "round {round}: {listed}, then {got}");
        let list = pb::ListChangesRequest {
            from_revision: got,
            ..Default::default()
        };
        let changes = reader.changes.clone().list_changes(list).await;
        let changes = changes.expect("listed").into_inner().revision;
        let got = reader.groups.clone().get_group(get.clone()).await;
        let got = got.expect("there").into_inner().revision;
        assert!(got >= changes, "round {round}: {changes}, then {got}");
        let request = pb::CreateUserRequest {
            username: format!("own user {round}"),
            ..Default::default()
        };
        let written = reader.users.clone().create_user(request).await;
        let written = written.expect("created").into_inner().revision;
        let got = reader.groups.clone().get_group(get).await;
        latest = got.expect("there").into_inner().revision;
        assert!(latest >= written, "round {round}: {written}, then {latest}");
    }
    over.store(true, Ordering::Relaxed);
    writing.await.expect("no panic");
}

/// Creates a user who has access until blocked.
async fn allowed_user(test_server: &TestServer, name: &str) -> String {
    let request = pb::CreateRoleRequest {
        name: name.into(),
        rules: vec![allow("shop", "orders", "refund")],
        ..Default::default()
    };
    let role = test_server.roles.clone().create_role(request).await;
    let role = role.expect("created").into_inner().role.expect("a role").id;
    let group = test_server.group(name, &[&role]).await.id;
    let user = test_server.user(name).await.id;
    test_server.assign(&group, &user).await;
    user
}

async fn block(test_server: &TestServer, user: &str) -> i64 {
    let request = pb::UpdateUserRequest {
        user_id: user.into(),
        status: Some(pb::UserStatus::Blocked.into()),
        ..Default::default()
    };
    let blocked = test_server.users.clone().update_user(request).await;
    blocked.expect("blocked").into_inner().revision
}

/// The decision and its revision; `None` if there is no response in time.
async fn decision(channel: &Channel, user: &str) -> Option<(Decision, i64)> {
    let mut request = Request::new(check(user, ACCESS_TRIPLE));
    request.set_timeout(Duration::from_secs(1));
    let mut access = AccessServiceClient::new(channel.clone());
    let answer = access.check_access(request).await.ok()?.into_inner();
    Some((answer.decision(), answer.revision))
}

/// Repeats an access check until it is a cache hit.
async fn warm(test_server: &TestServer, user: &str) {
    while test_server.db.cache_counts().hits == 0 {
        let (decision, _) = decision(&test_server.channel, user)
            .await
            .expect("answered");
        assert_eq!(decision, Decision::Allowed);
    }
}

/// Checks that a call made more than the maximum staleness after a write was acknowledged reflects the write, or fails.
async fn assert_bounded(
    test_server: &TestServer,
    user: &str,
    acknowledged: Instant,
    revision: i64,
) {
    for _ in 0..20 {
        let asked = Instant::now();
        let answer = decision(&test_server.channel, user).await;
        if let Some((decision, seen)) = answer
            && asked >= acknowledged + MAX_STALENESS
        {
            assert_eq!(decision, Decision::Denied);
            assert!(seen >= revision, "{seen}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staleness_is_bounded_while_an_instance_cannot_read_changes() {
    let primary = match Postgres::start(&[]).await {
        Ok(primary) => primary,
        Err(why) => return skip_test("PostgreSQL with backends that stand still", &why),
    };
    primary.query("CREATE DATABASE directory").await;
    primary
        .query("CREATE ROLE frozen SUPERUSER LOGIN PASSWORD 'frozen'")
        .await;
    let writer = crate::clusters::instance(&primary.url("directory"), None).await;
    let url = format!(
        "postgres://frozen:frozen@127.0.0.1:{}/directory",
        primary.port()
    );
    let settings = Settings {
        max_staleness: MAX_STALENESS,
        ..settings(&url)
    };
    let reader = TestServer::with(Arc::new(Database::with_url(&url)), settings).await;
    let user = allowed_user(&writer, "ann").await;
    warm(&reader, &user).await;
    // Suspend all backends of the reader but those of its health probe (active within a second) and of `LISTEN`.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let idle = primary
        .query(
            "SELECT pid FROM pg_stat_activity WHERE usename = 'frozen' AND query NOT LIKE 'LISTEN%' \
             AND query_start < now() - interval '1 s'",
        )
        .await;
    let pids: BTreeSet<_> = idle.lines().map(ToOwned::to_owned).collect();
    assert!(!pids.is_empty());
    signal("STOP", &pids).await;
    let revision = block(&writer, &user).await;
    assert_bounded(&reader, &user, Instant::now(), revision).await;
    tokio::time::sleep(MAX_STALENESS).await;
    assert_bounded(&reader, &user, Instant::now() - MAX_STALENESS, revision).await;
    signal("CONT", &pids).await;
}

async fn signal(name: &str, pids: &BTreeSet<String>) {
    let sent = Command::new("kill").args(["-s", name]).args(pids).status();
    assert!(sent.await.expect("kill runs").success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn staleness_is_bounded_while_the_pool_is_exhausted() {
    if engine() != DbBackend::Postgres {
        return;
    }
    let database = Arc::new(Database::create().await);
    let writer = TestServer::with(database.clone(), settings(database.url())).await;
    let settings = Settings {
        max_staleness: MAX_STALENESS,
        ..settings(database.url())
    };
    let reader = TestServer::with(database.clone(), settings).await;
    let user = allowed_user(&writer, "ann").await;
    warm(&reader, &user).await;
    let db = database.connect().await;
    let lock = db.begin().await.expect("begins");
    lock.execute_unprepared("LOCK TABLE group_roles IN ACCESS EXCLUSIVE MODE")
        .await
        .expect("locked");
    let mut stuck = JoinSet::new();
    for _ in 0..40 {
        let mut groups = reader.groups.clone();
        stuck.spawn(async move {
            let _ = groups.list_groups(pb::ListGroupsRequest::default()).await;
        });
    }
    while reader.db.reads_queued().0 == 0 {
        tokio::task::yield_now().await;
    }
    let revision = block(&writer, &user).await;
    let acknowledged = Instant::now();
    tokio::time::sleep(MAX_STALENESS).await;
    assert_bounded(&reader, &user, acknowledged, revision).await;
    lock.rollback().await.expect("unlocked");
    db.close().await.expect("closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_instance_does_not_serve_stale_responses() {
    if engine() == DbBackend::Sqlite {
        return;
    }
    let database = Arc::new(Database::create().await);
    let writer = TestServer::with(database.clone(), settings(database.url())).await;
    let mut command = binary();
    command.args(["--listen", "127.0.0.1:0", "--max-staleness", "1s"]);
    command.args(["--database-url", database.url()]);
    let reader = Process::spawn(command).await;
    let role = writer.role("A").await.id;
    let group = writer.group("Team", &[&role]).await.id;
    let mut channels = Vec::new();
    for _ in 0..12 {
        channels.push(reader.connect().await);
    }
    for turn in 0..3 {
        let user = allowed_user(&writer, &format!("user {turn}")).await;
        for _ in 0..100 {
            decision(&channels[0], &user).await.expect("answered");
        }
        reader.signal("STOP").await;
        let revision = block(&writer, &user).await;
        // A large backlog of changes, so that catching up takes long.
        for _ in 0..100 {
            writer.assign(&group, &user).await;
            let unassign = unassign(&group, &user);
            let unassigned = writer.groups.clone().unassign_user(unassign).await;
            unassigned.expect("unassigned");
        }
        tokio::time::sleep(MAX_STALENESS).await;
        let mut asking = JoinSet::new();
        for channel in channels.clone() {
            let user = user.clone();
            asking.spawn(async move {
                let mut answers = Vec::new();
                for _ in 0..40 {
                    answers.extend(decision(&channel, &user).await);
                }
                answers
            });
        }
        reader.signal("CONT").await;
        let answers: Vec<_> = asking.join_all().await.into_iter().flatten().collect();
        assert!(!answers.is_empty());
        for (decision, seen) in answers {
            assert!(seen >= revision, "{seen} is before {revision}");
            assert_eq!(decision, Decision::Denied);
        }
    }
    reader.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn catching_up_watchers_leave_connections_for_calls() {
    let (lock, unlock) = match engine() {
        DbBackend::Postgres => ("LOCK TABLE changes IN ACCESS EXCLUSIVE MODE", "COMMIT"),
        DbBackend::MySql => ("LOCK TABLES changes WRITE", "UNLOCK TABLES"),
        // Readers of a SQLite file don't wait for locks.
        _ => return,
    };
    let database = Arc::new(Database::create().await);
    let before = TestServer::with(database.clone(), settings(database.url())).await;
    before.role("A").await;
    // The tail of its feed starts after these changes: each watcher reads earlier ones from the table.
    let test_server = TestServer::with(database.clone(), settings(database.url())).await;
    let db = database.connect().await;
    let locked = db.begin().await.expect("begins");
    locked.execute_unprepared(lock).await.expect("locked");
    let mut watches = Vec::new();
    for _ in 0..64 {
        let request = pb::WatchChangesRequest {
            from_revision: 1,
            ..Default::default()
        };
        let watch = test_server.changes.clone().watch_changes(request).await;
        watches.push(watch.expect("watched").into_inner());
    }
    for _ in 0..20 {
        let listed = timeout(Duration::from_secs(5), list_roles(&test_server, 0)).await;
        listed.expect("answered in time").expect("listed");
    }
    locked.execute_unprepared(unlock).await.expect("unlocked");
    for watch in &mut watches {
        let first = watch.message().await.expect("goes on").expect("goes on");
        assert_eq!(first.changes[0].revision, 1);
    }
    drop(locked);
    db.close().await.expect("closes");
}

/// The cache relies on `quick_cache` not keeping an entry that is removed while it is loaded. The crate doesn't
/// document this, so its version is pinned, and this test fails if another version behaves differently.
#[tokio::test]
async fn quick_cache_drops_entries_invalidated_while_loading() {
    let cache = quick_cache::sync::Cache::<u8, u8>::new(10);
    let Err(loading) = cache.get_value_or_guard_async(&1).await else {
        panic!("there is an entry before the first");
    };
    cache.remove(&1);
    assert!(loading.insert(7).is_err());
    assert_eq!(cache.get(&1), None);
}
