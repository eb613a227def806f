//! An instance that is suspended (SIGSTOP) while it holds the lock that all writers need.

use std::time::Duration;

use group_service::pb;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement, TransactionTrait};
use tokio::time::timeout;

use crate::harness::{Database, Process, engine};

/// Queries that return a row while a session updates the user, or waits to do so.
const CHANGING: [&str; 2] = [
    "SELECT 'waits' FROM pg_stat_activity
      WHERE datname = current_database() AND wait_event_type = 'Lock'",
    "SELECT 'waits' FROM information_schema.processlist
      WHERE db = DATABASE() AND info LIKE 'UPDATE%users%' AND id <> connection_id()",
];

async fn is_changing(db: &DatabaseConnection) -> bool {
    let backend = db.get_database_backend();
    let [postgres, mysql] = CHANGING;
    let sql = if backend == DbBackend::Postgres {
        postgres
    } else {
        mysql
    };
    let found = db.query_one_raw(Statement::from_string(backend, sql)).await;
    found.expect("asked").is_some()
}

/// Whether a transaction holds the row lock that every write needs.
async fn is_held(db: &DatabaseConnection) -> bool {
    let sql = "SELECT revision FROM directory FOR UPDATE NOWAIT";
    let statement = Statement::from_string(db.get_database_backend(), sql);
    db.query_one_raw(statement).await.is_err()
}

/// Not on SQLite, which has one instance, and not on MySQL, which doesn't end idle transactions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn suspended_instance_blocks_other_writers_only_briefly() {
    if engine() == DbBackend::Sqlite {
        return;
    }
    let database = Database::create().await;
    let (stops, is_running) = (
        Process::start(database.url()).await,
        Process::start(database.url()).await,
    );
    let (_, mut roles, mut users) = is_running.clients().await;
    let request = pb::CreateUserRequest {
        username: "ann".into(),
        ..Default::default()
    };
    let user = users.create_user(request).await.expect("created");
    let user = user.into_inner().user.expect("a user").id;
    let db = database.connect().await;
    let mut attempt = 0;
    let call = loop {
        attempt += 1;
        assert!(attempt < 20, "it is never caught in the middle of a write");
        // Its write holds the directory's row, and waits for the user's row …
        let held = db.begin().await.expect("begins");
        held.execute_unprepared("UPDATE users SET version = version")
            .await
            .expect("held");
        let (_, _, mut users) = stops.clients().await;
        let request = pb::UpdateUserRequest {
            user_id: user.clone(),
            first_name: Some(format!("Ann {attempt}")),
            ..Default::default()
        };
        let call = tokio::spawn(async move { users.update_user(request).await });
        while !is_changing(&db).await && !call.is_finished() {
            tokio::task::yield_now().await;
        }
        // … when it is suspended. It then gets both locks, but doesn't continue.
        stops.signal("STOP").await;
        held.rollback().await.expect("released");
        while is_changing(&db).await {
            tokio::task::yield_now().await;
        }
        if is_held(&db).await {
            break call;
        }
        // Its lock wait had already timed out.
        stops.signal("CONT").await;
        let _ = call.await;
    };
    let request = pb::CreateRoleRequest {
        name: "meanwhile".into(),
        ..Default::default()
    };
    let written = timeout(Duration::from_secs(30), roles.create_role(request)).await;
    let written = written.expect("answered").expect("not held up");
    let revision = written.into_inner().revision;

    // The database has ended its transaction: the call fails, and nothing was written.
    stops.signal("CONT").await;
    let answer = timeout(Duration::from_secs(30), call).await;
    let answer = answer.expect("answered").expect("no panic");
    let get = pb::GetUserRequest {
        user_id: user.clone(),
        min_revision: revision,
    };
    let now = users.get_user(get).await.expect("got").into_inner();
    let name = now.user.expect("a user").first_name;
    match answer {
        Ok(answer) => {
            let answer = answer.into_inner();
            assert!(answer.revision > revision, "carried out again");
            assert_eq!(name, answer.user.expect("a user").first_name);
        }
        Err(status) => {
            assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}");
            assert!(!name.ends_with(&attempt.to_string()), "{name}");
        }
    }
    let (_, _, mut again) = stops.clients().await;
    let recovered = async {
        loop {
            let request = pb::UpdateUserRequest {
                user_id: user.clone(),
                last_name: Some("Lee".into()),
                ..Default::default()
            };
            match again.update_user(request).await {
                Ok(_) => return,
                Err(status) => assert_eq!(status.code(), tonic::Code::Unavailable, "{status:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let recovered = timeout(Duration::from_secs(30), recovered).await;
    recovered.expect("it serves again");
    crate::crash::assert_consistent(&database).await;
}
