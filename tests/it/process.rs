//! Shutdown of the program.

use std::time::Duration;

use group_service::pb;
use tokio::task::JoinSet;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    crash::strings,
    group::create,
    harness::{Database, Process},
};

#[tokio::test]
async fn sigterm_and_sigint_shut_down_cleanly_with_open_connections() {
    let database = Database::create().await;
    for signal in ["TERM", "INT"] {
        let server = Process::start(database.url()).await;
        let _idle = server.connect().await;
        // A stream that its client never closes.
        let mut health = HealthClient::new(server.connect().await);
        let mut watch = health
            .watch(HealthCheckRequest::default())
            .await
            .expect("watched")
            .into_inner();
        watch.message().await.expect("watched");
        server.signal(signal).await;
        let (status, log) = tokio::time::timeout(Duration::from_secs(10), server.wait_for_exit())
            .await
            .expect(signal);
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_answers_every_accepted_call() {
    let database = Database::create().await;
    let server = Process::start(database.url()).await;
    let (_, mut roles, _) = server.clients().await;
    let request = pb::CreateRoleRequest {
        name: "A".into(),
        ..Default::default()
    };
    let role = roles
        .create_role(request)
        .await
        .expect("created")
        .into_inner()
        .role
        .expect("a role")
        .id;

    let (answered, mut answers) = tokio::sync::mpsc::unbounded_channel();
    let mut callers = JoinSet::new();
    for caller in 0..32 {
        let (mut groups, ..) = server.clients().await;
        let (role, answered) = (role.clone(), answered.clone());
        callers.spawn(async move {
            for number in 0.. {
                let title = format!("Team {caller}.{number}");
                match groups.create_group(create(&title, &[&role])).await {
                    Ok(_) => answered.send(title).expect("the test listens"),
                    Err(_) => return,
                }
            }
        });
    }
    drop(answered);
    let mut acknowledged = Vec::new();
    while acknowledged.len() < 200 {
        acknowledged.push(answers.recv().await.expect("the callers call"));
    }
    server.signal("TERM").await;
    let ended = tokio::time::timeout(Duration::from_secs(10), server.wait_for_exit()).await;
    let (status, log) = ended.expect("within 10 seconds");
    assert_eq!(status.code(), Some(0), "{log}");
    callers.join_all().await;
    while let Some(title) = answers.recv().await {
        acknowledged.push(title);
    }

    // The calls that took effect are exactly those that succeeded.
    let db = database.connect().await;
    let mut there = strings(&db, "SELECT title FROM \"groups\"").await;
    there.sort_unstable();
    acknowledged.sort_unstable();
    assert_eq!(there, acknowledged);
    // The log has a line for each of these calls, and none for calls that were cut off.
    assert_eq!(
        log.matches("GroupService/CreateGroup rpc.response.status_code=OK")
            .count(),
        there.len()
    );
    assert_eq!(log.matches("CANCELLED").count(), 0, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_answers_calls_waiting_for_a_locked_database() {
    let database = Database::create().await;
    let server = Process::start(database.url()).await;
    let other = crate::harness::lock_writes(&database).await;
    let mut callers = JoinSet::new();
    for caller in 0..16 {
        let (_, mut roles, _) = server.clients().await;
        callers.spawn(async move {
            let name = format!("Role {caller}");
            let request = pb::CreateRoleRequest {
                name,
                ..Default::default()
            };
            roles.create_role(request).await
        });
    }
    // All calls are queued when the first one is rejected.
    let first = callers
        .join_next()
        .await
        .expect("a caller")
        .expect("no panic");
    let refusals = ["CONFLICT", "OVERLOADED", "DATABASE_UNAVAILABLE"];
    let reported = crate::harness::expect_error(first);
    assert!(refusals[..2].contains(&&*reported.reason), "{reported:?}");
    server.signal("TERM").await;
    let ended = tokio::time::timeout(Duration::from_secs(10), server.wait_for_exit()).await;
    let (status, log) = ended.expect("within 10 seconds");
    assert_eq!(status.code(), Some(0), "{log}");
    for answer in callers.join_all().await {
        let reported = crate::harness::expect_error(answer);
        assert!(refusals.contains(&&*reported.reason), "{reported:?}");
    }
    other.release().await;
    crate::crash::assert_consistent(&database).await;
}
