//! PostgreSQL with a synchronous standby behind HAProxy, as users of Patroni run it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use group_service::{
    pb,
    store::{Location, Settings},
};
use sea_orm::{ConnectionTrait, TransactionTrait};
use tokio::task::JoinSet;
use tonic::Code;
use tonic_health::ServingStatus;

use super::{answers::MAX_STALENESS, instance, load::Load, until};
use crate::harness::{
    self, Database, World, not_run, say,
    servers::{HaProxy, Postgres},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_takes_over_has_all_that_was_acknowledged() {
    let mut primary = match Postgres::start(&[]).await {
        Ok(primary) => primary,
        Err(why) => return not_run("PostgreSQL with a standby", &why),
    };
    primary.query("CREATE DATABASE directory").await;
    let standby = primary.standby().await;
    primary.synchronous().await;
    let proxy = match HaProxy::start(&[&primary, &standby]).await {
        Ok(proxy) => proxy,
        Err(why) => return not_run("PostgreSQL behind HAProxy", &why),
    };
    let mut worlds = Vec::new();
    for _ in 0..2 {
        let replica = standby.url("directory");
        worlds.push(instance(&proxy.url("directory"), Some(&replica)).await);
    }
    let channels = worlds.iter().map(|world| world.channel.clone());
    let load = Load::begin(channels.collect(), 16, 16, &[Code::Unavailable]).await;
    load.go_on(500).await;
    primary.kill().await;
    until(&worlds[0], ServingStatus::NotServing).await;
    standby.promote().await;
    until(&worlds[0], ServingStatus::Serving).await;
    load.go_on(500).await;
    say(&format!(
        "PostgreSQL, a standby takes over: {}",
        load.prove().await
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_that_is_behind_answers_nobody_who_asks_for_more() {
    let primary = match Postgres::start(&[]).await {
        Ok(primary) => primary,
        Err(why) => return not_run("PostgreSQL with a standby", &why),
    };
    primary.query("CREATE DATABASE directory").await;
    let standby = primary.standby().await;
    let url = primary.url("directory");
    let world = instance(&url, Some(&standby.url("directory"))).await;
    let other = instance(&url, None).await;
    let role = world.role("Seen").await.id;
    // Reads go to the standby once it has been seen to be in step.
    let wanted = list(&world, 0).await.1 + 1;
    standby.query("SELECT pg_wal_replay_pause()").await;
    other.role("Unseen").await;
    let written = Instant::now();
    // Without a revision an answer of the standby will do, for so long.
    while written.elapsed() < MAX_STALENESS {
        let asked = Instant::now();
        let (roles, revision) = list(&world, 0).await;
        assert_eq!(roles == 2, revision >= wanted, "{roles} of {revision}");
        if asked.duration_since(written) >= MAX_STALENESS {
            break;
        }
    }
    for _ in 0..20 {
        assert_eq!(list(&world, 0).await, (2, wanted));
        assert_eq!(list(&world, wanted).await, (2, wanted));
    }
    let request = pb::GetRoleRequest {
        role_id: role,
        min_revision: wanted,
    };
    let got = world.roles.clone().get_role(request).await.expect("there");
    assert!(got.into_inner().revision >= wanted);
    standby.query("SELECT pg_wal_replay_resume()").await;
}

/// How many roles there are, and the revision of the answer.
async fn list(world: &World, min_revision: i64) -> (usize, i64) {
    let request = pb::ListRolesRequest {
        min_revision,
        ..Default::default()
    };
    let page = world.roles.clone().list_roles(request).await;
    let page = page.expect("listed").into_inner();
    (page.roles.len(), page.revision)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_instance_reads_its_own_writes_while_its_standby_is_behind() {
    let primary = match Postgres::start(&[]).await {
        Ok(primary) => primary,
        Err(why) => return not_run("PostgreSQL with a standby", &why),
    };
    primary.query("CREATE DATABASE directory").await;
    let standby = primary.standby().await;
    let replica = standby.url("directory");
    let world = instance(&primary.url("directory"), Some(&replica)).await;
    standby.query("SELECT pg_wal_replay_pause()").await;
    for number in 1..=20 {
        world.role(&format!("Role {number}")).await;
        let (roles, revision) = list(&world, 0).await;
        assert_eq!(
            (roles, revision),
            (number, i64::try_from(number).expect("small"))
        );
    }
    standby.query("SELECT pg_wal_replay_resume()").await;
}

/// As many calls as there is no room for are no reason to leave the standby alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_of_an_instance_does_not_count_against_its_standby() {
    let primary = match Postgres::start(&[]).await {
        Ok(primary) => primary,
        Err(why) => return not_run("PostgreSQL with a standby", &why),
    };
    primary.query("CREATE DATABASE directory").await;
    let standby = primary.standby().await;
    let (url, replica) = (primary.url("directory"), standby.url("directory"));
    let settings = Settings {
        replica: Some(Location::parse(&replica).expect("a URL")),
        connections: 2,
        max_queue: 1,
        max_staleness: Duration::from_secs(60),
        ..Settings::new(Location::parse(&url).expect("a URL"))
    };
    let world = World::with(Arc::new(Database::elsewhere(&url)), settings).await;
    world.role("A").await;
    let (_, revision) = list(&world, 0).await;
    let replayed = || async {
        let found = standby
            .query_in("directory", "SELECT revision FROM directory")
            .await;
        (found == revision.to_string()).then_some(())
    };
    harness::servers::until("the standby's replay", replayed).await;
    standby.query("SELECT pg_wal_replay_pause()").await;
    // From now on the standby alone can answer.
    let db = sea_orm::Database::connect(&url).await.expect("connects");
    let lock = db.begin().await.expect("begins");
    lock.execute_unprepared("LOCK TABLE roles IN ACCESS EXCLUSIVE MODE")
        .await
        .expect("locked");
    let mut calls = JoinSet::new();
    for _ in 0..5 {
        for _ in 0..50 {
            let mut roles = world.roles.clone();
            calls.spawn(async move { roles.list_roles(pb::ListRolesRequest::default()).await });
        }
        // All but those that the primary's connections are busy with.
        while calls.len() > 2 {
            let answer = calls
                .join_next()
                .await
                .expect("one more")
                .expect("no panic");
            if let Err(status) = answer {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
            }
        }
        let answer = tokio::time::timeout(MAX_STALENESS, list(&world, 0)).await;
        assert_eq!(answer.expect("the standby answers"), (1, revision));
    }
    lock.rollback().await.expect("unlocked");
    db.close().await.expect("closes");
    standby.query("SELECT pg_wal_replay_resume()").await;
}
