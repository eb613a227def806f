//! Several instances on one database, and few connections for many callers.

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
    harness::{Database, Process, World, engine, id, say},
};

fn settings(database: &Database) -> Settings {
    Settings::new(Location::parse(database.url()).expect("a URL"))
}

/// Follows every change from the first one on.
async fn follow(world: &World) -> Streaming<pb::WatchChangesResponse> {
    let request = pb::WatchChangesRequest {
        from_revision: 1,
        ..Default::default()
    };
    let mut client = ChangeServiceClient::new(world.channel.clone());
    let feed = client.watch_changes(request).await;
    feed.expect("followed").into_inner()
}

/// On SQLite one instance is all there is meant to be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_instances_give_one_history() {
    if engine() == DbBackend::Sqlite {
        return;
    }
    let database = Arc::new(Database::create().await);
    let one = World::with(database.clone(), settings(&database)).await;
    let two = World::with(database.clone(), settings(&database)).await;
    let channels = vec![one.channel.clone(), two.channel.clone()];
    let load = Load::begin(channels, 32, 32, &[]).await;
    tokio::time::sleep(seconds()).await;
    let done = load.prove().await;
    let retries = one.db.retries() + two.db.retries();
    say(&format!(
        "two instances on {:?}: {done}, {retries} retries",
        engine()
    ));
    crate::crash::assert_consistent(&database).await;
}

/// Who follows one instance hears of what is written through another.
#[tokio::test]
async fn a_follower_of_one_instance_sees_the_writes_of_another() {
    let database = Arc::new(Database::create().await);
    let one = World::with(database.clone(), settings(&database)).await;
    let two = World::with(database.clone(), settings(&database)).await;
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
async fn callers_who_try_again_see_no_failure_while_an_instance_is_killed() {
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
                    request_id: id(),
                    ..create(&format!("Team {caller}.{number}"), &[&role])
                };
                // As a load balancer does: what one instance doesn't answer is sent to the next.
                let tried = async {
                    loop {
                        turn += 1;
                        let uri = format!("http://{}", addresses.borrow()[turn % 2]);
                        let channel = Channel::from_shared(uri).expect("a URI").connect_lazy();
                        let mut groups = GroupServiceClient::new(channel);
                        match groups.create_group(request.clone()).await {
                            Ok(_) => return,
                            // The instance's own word, or the connection's.
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

/// Both instances are stopped and started again, one after the other, as an upgrade does: one more try, with the other
/// instance, is all that a caller needs.
#[tokio::test]
async fn a_rolling_restart_costs_no_caller_more_than_one_more_try() {
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
                    request_id: id(),
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
        // Those who call are told only when it has ended.
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
    crate::harness::say(&format!(
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
async fn two_connections_do_for_200_callers_and_50_followers() {
    let database = Arc::new(Database::create().await);
    let world = World::with(
        database.clone(),
        Settings {
            connections: 2,
            // They wait in line, and on a slow machine for longer than usual.
            queue_time: Duration::from_secs(10),
            ..settings(&database)
        },
    )
    .await;
    let role = world.role("A").await.id;
    let mut followers = JoinSet::new();
    for _ in 0..50 {
        let mut feed = follow(&world).await;
        followers.spawn(async move {
            // The role, and the group of each caller.
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
        let (channel, role) = (world.channel.clone(), role.clone());
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
    let mut health = HealthClient::new(world.channel.clone());
    while let Some(caller) = callers.join_next().await {
        caller.expect("nobody is turned away");
        let told = health.check(HealthCheckRequest::default()).await;
        assert_eq!(
            told.expect("told").into_inner().status,
            1,
            "healthy all the time"
        );
    }
    let followed = tokio::time::timeout(Duration::from_secs(20), followers.join_all()).await;
    followed.expect("every follower sees everything");
}

/// What is taken and given back is nothing that the database has lost.
#[tokio::test]
async fn who_follows_hears_nothing_of_what_changes_nothing() {
    let world = World::start().await;
    let role = world.role("A").await.id;
    let mut feed = follow(&world).await;
    let mut losses = world.db.losses();
    losses.mark_unchanged();
    for _ in 0..20 {
        let request = pb::DeleteGroupRequest {
            allow_missing: true,
            ..crate::group::delete(&id())
        };
        let deleted = world.groups.clone().delete_group(request).await;
        assert_eq!(deleted.expect("deleted").into_inner().revision, 1);
        let request = pb::UpdateRoleRequest {
            role_id: role.clone(),
            request_id: id(),
            ..Default::default()
        };
        let same = world.roles.clone().update_role(request).await;
        assert_eq!(same.expect("the same").into_inner().revision, 1);
        // Looks at the revision, as the probe does.
        assert!(world.db.is_readable().await);
    }
    assert!(!losses.has_changed().expect("open"));
    world.role("B").await;
    loop {
        let batch = feed.message().await.expect("goes on").expect("goes on");
        if batch.revision == 2 {
            return;
        }
    }
}

/// As after a failover to a server that hadn't got the last writes.
#[tokio::test]
async fn who_follows_what_the_database_has_lost_is_told_so() {
    let world = World::start().await;
    for name in ["A", "B", "C"] {
        world.role(name).await;
    }
    let mut feed = follow(&world).await;
    let mut revision = 0;
    while revision < 3 {
        let batch = feed.message().await.expect("told").expect("goes on");
        revision = batch.revision;
    }
    let db = world.database.connect().await;
    for sql in [
        "DELETE FROM changes WHERE revision > 1",
        "DELETE FROM roles WHERE name <> 'A'",
        "UPDATE directory SET revision = 1",
    ] {
        db.execute_unprepared(sql).await.expect(sql);
    }
    let told = async {
        loop {
            if let Err(status) = feed.message().await {
                return crate::harness::told::<()>(Err(status));
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(10), told).await;
    let told = told.expect("before the heartbeat");
    assert_eq!(
        (told.code, &*told.reason),
        (Code::OutOfRange, "REVISION_UNKNOWN")
    );
    world.role("D").await;
}
