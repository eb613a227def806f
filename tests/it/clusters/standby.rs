//! PostgreSQL with a synchronous standby behind HAProxy, as with Patroni.

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

use super::{instance, load::Load, responses::MAX_STALENESS, until};
use crate::harness::{
    self, Database, TestServer, print_uncaptured,
    servers::{HaProxy, Postgres},
    skip_test,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failover_to_standby_keeps_acknowledged_writes() {
    let mut primary = match Postgres::start(&[]).await {
        Ok(primary) => primary,
        Err(why) => return skip_test("PostgreSQL with a standby", &why),
    };
    primary.query("CREATE DATABASE directory").await;
    let standby = primary.standby().await;
    primary.synchronous().await;
    let proxy = match HaProxy::start(&[&primary, &standby]).await {
        Ok(proxy) => proxy,
        Err(why) => return skip_test("PostgreSQL behind HAProxy", &why),
    };
    let mut worlds = Vec::new();
    for _ in 0..2 {
        let replica = standby.url("directory");
        worlds.push(instance(&proxy.url("directory"), Some(&replica)).await);
    }
    let channels = worlds.iter().map(|test_server| test_server.channel.clone());
    let load = Load::begin(channels.collect(), 16, 16, &[Code::Unavailable]).await;
    load.go_on(500).await;
    primary.kill().await;
    until(&worlds[0], ServingStatus::NotServing).await;
    standby.promote().await;
    until(&worlds[0], ServingStatus::Serving).await;
    load.go_on(500).await;
    print_uncaptured(&format!(
        "PostgreSQL, a standby takes over: {}",
        load.verify().await
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lagging_standby_does_not_serve_newer_min_revision() {
    let primary = match Postgres::start(&[]).await {
        Ok(primary) => primary,
        Err(why) => return skip_test("PostgreSQL with a standby", &why),
    };
    primary.query("CREATE DATABASE directory").await;
    let standby = primary.standby().await;
    let url = primary.url("directory");
    let test_server = instance(&url, Some(&standby.url("directory"))).await;
    let other = instance(&url, None).await;
    let role = test_server.role("Seen").await.id;
    // Reads go to the standby once a probe has seen that it is up to date.
    let wanted = list(&test_server, 0).await.1 + 1;
    standby.query("SELECT pg_wal_replay_pause()").await;
    other.role("Unseen").await;
    let written = Instant::now();
    // Without `min_revision` the stale standby may respond until the maximum staleness is exceeded.
    while written.elapsed() < MAX_STALENESS {
        let asked = Instant::now();
        let (roles, revision) = list(&test_server, 0).await;
        assert_eq!(roles == 2, revision >= wanted, "{roles} of {revision}");
        if asked.duration_since(written) >= MAX_STALENESS {
            break;
        }
    }
    for _ in 0..20 {
        assert_eq!(list(&test_server, 0).await, (2, wanted));
        assert_eq!(list(&test_server, wanted).await, (2, wanted));
    }
    let request = pb::GetRoleRequest {
        role_id: role,
        min_revision: wanted,
    };
    let got = test_server
        .roles
        .clone()
        .get_role(request)
        .await
        .expect("there");
    assert!(got.into_inner().revision >= wanted);
    standby.query("SELECT pg_wal_replay_resume()").await;
}

/// Returns the number of roles, and the revision of the response.
async fn list(test_server: &TestServer, min_revision: i64) -> (usize, i64) {
    let request = pb::ListRolesRequest {
        min_revision,
        ..Default::default()
    };
    let page = test_server.roles.clone().list_roles(request).await;
    let page = page.expect("listed").into_inner();
    (page.roles.len(), page.revision)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn instance_reads_its_own_writes_while_standby_lags() {
    let primary = match Postgres::start(&[]).await {
        Ok(primary) => primary,
        Err(why) => return skip_test("PostgreSQL with a standby", &why),
    };
    primary.query("CREATE DATABASE directory").await;
    let standby = primary.standby().await;
    let replica = standby.url("directory");
    let test_server = instance(&primary.url("directory"), Some(&replica)).await;
    standby.query("SELECT pg_wal_replay_pause()").await;
    for number in 1..=20 {
        test_server.role(&format!("Role {number}")).await;
        let (roles, revision) = list(&test_server, 0).await;
        assert_eq!(
            (roles, revision),
            (number, i64::try_from(number).expect("small"))
        );
    }
    standby.query("SELECT pg_wal_replay_resume()").await;
}

/// Calls rejected for lack of connections must not make the instance stop using the standby.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_does_not_mark_standby_unavailable() {
    let primary = match Postgres::start(&[]).await {
        Ok(primary) => primary,
        Err(why) => return skip_test("PostgreSQL with a standby", &why),
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
    let test_server = TestServer::with(Arc::new(Database::with_url(&url)), settings).await;
    test_server.role("A").await;
    let (_, revision) = list(&test_server, 0).await;
    let replayed = || async {
        let found = standby
            .query_in("directory", "SELECT revision FROM directory")
            .await;
        (found == revision.to_string()).then_some(())
    };
    harness::servers::until("the standby's replay", replayed).await;
    standby.query("SELECT pg_wal_replay_pause()").await;
    // The lock blocks reads on the primary: only the standby can respond.
    let db = sea_orm::Database::connect(&url).await.expect("connects");
    let lock = db.begin().await.expect("begins");
    lock.execute_unprepared("LOCK TABLE roles IN ACCESS EXCLUSIVE MODE")
        .await
        .expect("locked");
    let mut calls = JoinSet::new();
    for _ in 0..5 {
        for _ in 0..50 {
            let mut roles = test_server.roles.clone();
            calls.spawn(async move { roles.list_roles(pb::ListRolesRequest::default()).await });
        }
        // All calls but those that block on the primary's two connections.
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
        let answer = tokio::time::timeout(MAX_STALENESS, list(&test_server, 0)).await;
        assert_eq!(answer.expect("the standby answers"), (1, revision));
    }
    lock.rollback().await.expect("unlocked");
    db.close().await.expect("closes");
    standby.query("SELECT pg_wal_replay_resume()").await;
}
