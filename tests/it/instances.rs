//! Several instances on one database, and many callers on few connections.

use std::{sync::Arc, time::Duration};

use group_service::{
    pb::{
        self, change_service_client::ChangeServiceClient, group_service_client::GroupServiceClient,
    },
    store::{Location, Settings},
};
use sea_orm::{ConnectionTrait, DbBackend};
use tokio::task::JoinSet;
use tonic::{Code, Streaming, transport::Channel};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    clusters::load::{Load, seconds},
    group::create,
    harness::{Database, Process, TestServer, engine, print_uncaptured, unknown_id},
};

fn settings(database: &Database) -> Settings {
    Settings::new(Location::parse(database.url()).expect("a URL"))
}

/// Watches all changes from the first one on.
async fn follow(test_server: &TestServer) -> Streaming<pb::WatchChangesResponse> {
    let request = pb::WatchChangesRequest {
        from_revision: 1,
        ..Default::default()
    };
    let mut client = ChangeServiceClient::new(test_server.channel.clone());
    let feed = client.watch_changes(request).await;
    feed.expect("followed").into_inner()
}

/// Not on SQLite, which supports one instance only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_share_one_history() {
    if engine() == DbBackend::Sqlite {
        return;
    }
    let database = Arc::new(Database::create().await);
    let one = TestServer::with(database.clone(), settings(&database)).await;
    let two = TestServer::with(database.clone(), settings(&database)).await;
    let channels = vec![one.channel.clone(), two.channel.clone()];
    let load = Load::begin(channels, 32, 32, &[]).await;
    tokio::time::sleep(seconds()).await;
    let done = load.verify().await;
    let retries = one.db.retries() + two.db.retries();
    print_uncaptured(&format!(
        "two instances on {:?}: {done}, {retries} retries",
        engine()
    ));
    crate::crash::assert_consistent(&database).await;
}

/// A watcher of one instance receives writes made through another.
#[tokio::test]
async fn watcher_sees_writes_of_other_instance() {
    let database = Arc::new(Database::create().await);
    let one = TestServer::with(database.clone(), settings(&database)).await;
    let two = TestServer::with(database.clone(), settings(&database)).await;
    let mut feed = follow(&one).await;
    let role = two.role("Elsewhere").await.id;
    let seen = async {
        loop {
            let batch = feed.message().await.expect("told").expect("goes on");
            if let Some(change) = batch.changes.first() {
                return change.role.clone().expect("a role").id;
            }
        }
    };
    let seen = tokio::time::timeout(Duration::from_secs(5), seen).await;
    assert_eq!(seen.expect("long before the heartbeat"), role);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retrying_callers_survive_instance_crash() {
    if engine() == DbBackend::Sqlite {
        return;
    }
    let database = Database::create().await;
    let stays = Process::start(database.url()).await;
    let mut goes = Process::start(database.url()).await;
    let (mut groups, mut roles, _) = stays.clients().await;
    let role = roles.create_role(pb::CreateRoleRequest {
        name: "A".into(),
        ..Default::default()
    });
    let role = role
        .await
        .expect("created")
        .into_inner()
        .role
        .expect("a role")
        .id;
    let (address, addresses) = tokio::sync::watch::channel([stays.address, goes.address]);
    let mut callers = JoinSet::new();
    for caller in 0..16 {
        let (role, addresses) = (role.clone(), addresses.clone());
        callers.spawn(async move {
            let mut turn = caller;
            for number in 0..40 {
                let request = pb::CreateGroupRequest {
                    request_id: unknown_id(),
                    ..create(&format!("Team {caller}.{number}"), &[&role])
                };
                // Like a load balancer: if one instance is unavailable, the call is sent to the other.
                let tried = async {
                    loop {
                        turn += 1;
                        let uri = format!("http://{}", addresses.borrow()[turn % 2]);
                        let channel = Channel::from_shared(uri).expect("a URI").connect_lazy();
                        let mut groups = GroupServiceClient::new(channel);
                        match groups.create_group(request.clone()).await {
                            Ok(_) => return,
                            // UNAVAILABLE from the instance, or a connection error.
                            Err(status)
                                if status.code() == Code::Unavailable
                                    || std::error::Error::source(&status).is_some() => {}
                            Err(status) => panic!("{status:?}"),
                        }
                    }
                };
                let tried = tokio::time::timeout(Duration::from_secs(10), tried).await;
                tried.expect("some instance answers");
            }
        });
    }
    while !callers.is_empty() {
        goes.kill().await;
        goes = Process::start(database.url()).await;
        address.send_replace([stays.address, goes.address]);
        while let Some(ended) = callers.try_join_next() {
            ended.expect("no caller saw a failure");
        }
    }
    let request = pb::ListGroupsRequest {
        page_size: 1,
        with_total_size: true,
        ..Default::default()
    };
    let listed = groups.list_groups(request).await;
    assert_eq!(
        listed.expect("listed").into_inner().total_size,
        Some(16 * 40)
    );
    crate::crash::assert_consistent(&database).await;
}

/// Both instances are restarted one after the other, as during an upgrade: callers need at most one retry, with the
/// other instance.
#[tokio::test]
async fn rolling_restart_needs_at_most_one_retry() {
    if engine() == DbBackend::Sqlite {
        return;
    }
    let database = Database::create().await;
    let mut instances = [
        Process::start(database.url()).await,
        Process::start(database.url()).await,
    ];
    let (_, mut roles, _) = instances[0].clients().await;
    let role = pb::CreateRoleRequest {
        name: "A".into(),
        ..Default::default()
    };
    let role = roles.create_role(role).await.expect("created").into_inner();
    let role = role.role.expect("a role").id;
    let channels = [instances[0].connect().await, instances[1].connect().await];
    let (channel, channels) = tokio::sync::watch::channel(channels);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut callers = JoinSet::new();
    for caller in 0..16 {
        let (role, channels, stopped) = (role.clone(), channels.clone(), stopped.clone());
        callers.spawn(async move {
            let (mut number, mut retries) = (0, 0);
            while !*stopped.borrow() {
                let request = pb::CreateGroupRequest {
                    request_id: unknown_id(),
                    ..create(&format!("Team {caller}.{number}"), &[&role])
                };
                number += 1;
                let first = (caller + number) % 2;
                let mut groups = GroupServiceClient::new(channels.borrow()[first].clone());
                if groups.create_group(request.clone()).await.is_err() {
                    retries += 1;
                    let other = channels.borrow()[1 - first].clone();
                    let again = GroupServiceClient::new(other).create_group(request).await;
                    again.expect("the other instance answers");
                }
            }
            (number, retries)
        });
    }
    for index in [0, 1, 0, 1] {
        let new = Process::start(database.url()).await;
        let mut now = channel.borrow().clone();
        let old = std::mem::replace(&mut instances[index], new);
        // Callers only learn about the new instance after the old one has ended.
        old.stop().await;
        now[index] = instances[index].connect().await;
        channel.send_replace(now);
    }
    stop.send_replace(true);
    let (mut calls, mut retries) = (0, 0);
    while let Some(ended) = callers.join_next().await {
        let (of_one, again) = ended.expect("no caller saw a failure");
        calls += of_one;
        retries += again;
    }
    crate::harness::print_uncaptured(&format!(
        "a rolling restart: {calls} calls, {retries} tried again"
    ));
    let mut groups = GroupServiceClient::new(channel.borrow()[0].clone());
    let request = pb::ListGroupsRequest {
        page_size: 1,
        with_total_size: true,
        ..Default::default()
    };
    let listed = groups.list_groups(request).await.expect("listed");
    let there = listed
        .into_inner()
        .total_size
        .and_then(|size| usize::try_from(size).ok());
    assert_eq!(there, Some(calls));
    crate::crash::assert_consistent(&database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_database_connections_serve_200_callers_and_50_watchers() {
    let database = Arc::new(Database::create().await);
    let test_server = TestServer::with(
        database.clone(),
        Settings {
            connections: 2,
            // The calls are queued, on a slow machine for longer than the default.
            queue_time: Duration::from_secs(10),
            ..settings(&database)
        },
    )
    .await;
    let role = test_server.role("A").await.id;
    let mut followers = JoinSet::new();
    for _ in 0..50 {
        let mut feed = follow(&test_server).await;
        followers.spawn(async move {
            // One revision for the role, and one for each caller's group.
            while feed
                .message()
                .await
                .expect("told")
                .expect("goes on")
                .revision
                < 201
            {}
        });
    }
    let mut callers = JoinSet::new();
    for caller in 0..200 {
        let (channel, role) = (test_server.channel.clone(), role.clone());
        callers.spawn(async move {
            let mut groups = GroupServiceClient::new(channel);
            let title = format!("Team {caller}");
            let created = groups.create_group(create(&title, &[&role])).await;
            let group_id = created
                .expect("created")
                .into_inner()
                .group
                .expect("a group")
                .id;
            for _ in 0..5 {
                let request = pb::GetGroupRequest {
                    group_id: group_id.clone(),
                    ..Default::default()
                };
                groups.get_group(request).await.expect("got");
            }
        });
    }
    let mut health = HealthClient::new(test_server.channel.clone());
    while let Some(caller) = callers.join_next().await {
        caller.expect("nobody is turned away");
        let reported = health.check(HealthCheckRequest::default()).await;
        assert_eq!(
            reported.expect("told").into_inner().status,
            1,
            "healthy all the time"
        );
    }
    let followed = tokio::time::timeout(Duration::from_secs(20), followers.join_all()).await;
    followed.expect("every follower sees everything");
}

/// A revision that a no-op write takes and gives back isn't reported as a lost revision.
#[tokio::test]
async fn watchers_get_no_events_for_no_op_writes() {
    let test_server = TestServer::start().await;
    let role = test_server.role("A").await.id;
    let mut feed = follow(&test_server).await;
    let mut losses = test_server.db.data_losses();
    losses.mark_unchanged();
    for _ in 0..20 {
        let request = pb::DeleteGroupRequest {
            allow_missing: true,
            ..crate::group::delete(&unknown_id())
        };
        let deleted = test_server.groups.clone().delete_group(request).await;
        assert_eq!(deleted.expect("deleted").into_inner().revision, 1);
        let request = pb::UpdateRoleRequest {
            role_id: role.clone(),
            request_id: unknown_id(),
            ..Default::default()
        };
        let same = test_server.roles.clone().update_role(request).await;
        assert_eq!(same.expect("the same").into_inner().revision, 1);
        // Reads the revision, as the probe does.
        assert!(test_server.db.is_readable().await);
    }
    assert!(!losses.has_changed().expect("open"));
    test_server.role("B").await;
    loop {
        let batch = feed.message().await.expect("goes on").expect("goes on");
        if batch.revision == 2 {
            return;
        }
    }
}

/// Simulates a failover to a server that lacks the last writes.
#[tokio::test]
async fn watchers_are_notified_of_lost_revisions() {
    let test_server = TestServer::start().await;
    for name in ["A", "B", "C"] {
        test_server.role(name).await;
    }
    let mut feed = follow(&test_server).await;
    let mut revision = 0;
    while revision < 3 {
        let batch = feed.message().await.expect("told").expect("goes on");
        revision = batch.revision;
    }
    let db = test_server.database.connect().await;
    for sql in [
        "DELETE FROM changes WHERE revision > 1",
        "DELETE FROM roles WHERE name <> 'A'",
        "UPDATE directory SET revision = 1",
    ] {
        db.execute_unprepared(sql).await.expect(sql);
    }
    let reported = async {
        loop {
            if let Err(status) = feed.message().await {
                return crate::harness::expect_error::<()>(Err(status));
            }
        }
    };
    let reported = tokio::time::timeout(Duration::from_secs(10), reported).await;
    let reported = reported.expect("before the heartbeat");
    assert_eq!(
        (reported.code, &*reported.reason),
        (Code::OutOfRange, "REVISION_UNKNOWN")
    );
    test_server.role("D").await;
}
