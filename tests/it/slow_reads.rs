//! Slow reads, and other calls that run concurrently.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use group_service::pb::{
    self, group_service_client::GroupServiceClient, role_service_client::RoleServiceClient,
    user_service_client::UserServiceClient,
};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, TransactionTrait,
};
use tokio::task::JoinSet;
use tonic::{Code, Request, transport::Channel};

use crate::{
    auth,
    caller_limits::{revoke, token},
    harness::{Database, Process, TestServer, engine},
    limits::{self, from, until},
};

/// A user whose names repeat one letter, which case-folds to four of another letter.
fn single_letter_user(number: usize) -> pb::CreateUserRequest {
    let letters = "⨌".repeat(255);
    pb::CreateUserRequest {
        username: format!("{}{number}", "⨌".repeat(250)),
        first_name: letters.clone(),
        last_name: letters,
        ..Default::default()
    }
}

/// A request with a deadline that an algorithm of quadratic time would miss.
fn with_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(4));
    request
}

#[tokio::test]
async fn repeated_letters_are_searched_in_linear_time() {
    let w = TestServer::start().await;
    let group = w.group("A", &[&w.role("B").await.id]).await;
    let mut creating = JoinSet::new();
    for worker in 0..16 {
        let (mut users, mut groups) = (w.users.clone(), w.groups.clone());
        let group_id = group.id.clone();
        creating.spawn(async move {
            for number in 0..25 {
                let created = users
                    .create_user(single_letter_user(worker * 25 + number))
                    .await;
                let created = created.expect("created").into_inner();
                let assign = pb::AssignUserRequest {
                    group_id: group_id.clone(),
                    user_id: created.user.expect("a user").id,
                    ..Default::default()
                };
                groups.assign_user(assign).await.expect("assigned");
            }
        });
    }
    creating.join_all().await;
    let run = "∫".repeat(250);
    // A search that compares most of the query at each position would exceed the deadline.
    for query in [
        format!("{}b", "⨌".repeat(254)),
        format!("b{}", "⨌".repeat(254)),
        format!("{}b{}", "⨌".repeat(127), "⨌".repeat(127)),
        format!("{run}%_!b"),
    ] {
        let request = pb::ListUsersRequest {
            query: query.clone(),
            ..Default::default()
        };
        let listed = w.users.clone().list_users(with_deadline(request)).await;
        assert!(listed.expect("in time").into_inner().users.is_empty());
        let request = pb::ListUsersInGroupRequest {
            group_id: group.id.clone(),
            query,
            with_total_size: true,
            ..Default::default()
        };
        let listed = w
            .groups
            .clone()
            .list_users_in_group(with_deadline(request))
            .await;
        let listed = listed.expect("in time").into_inner();
        assert_eq!(listed.total_size, Some(0));
    }
    // Existing text is found.
    let request = pb::ListUsersRequest {
        query: format!("{}7", "⨌".repeat(250)),
        ..Default::default()
    };
    let listed = w.users.clone().list_users(request).await;
    let found = listed.expect("in time").into_inner().users;
    assert!(!found.is_empty());
    assert!(found.iter().all(|user| user.username.contains("⨌7")));
}

/// Makes reads of roles block: on SQLite until they are cancelled, elsewhere until `end`.
struct BlockedReads {
    db: DatabaseConnection,
    lock: Option<DatabaseTransaction>,
}

impl BlockedReads {
    async fn begin(database: &Database) -> Self {
        let db = database.connect().await;
        let mut lock = None;
        if engine() == DbBackend::Sqlite {
            for sql in [
                "ALTER TABLE roles RENAME TO some_roles",
                "CREATE VIEW roles AS SELECT * FROM some_roles WHERE (WITH RECURSIVE n (x) AS \
                 (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n) > 0",
            ] {
                db.execute_unprepared(sql).await.expect("altered");
            }
        } else {
            let sql = if engine() == DbBackend::Postgres {
                "LOCK TABLE roles IN ACCESS EXCLUSIVE MODE"
            } else {
                "LOCK TABLES roles WRITE"
            };
            let tx = db.begin().await.expect("begun");
            tx.execute_unprepared(sql).await.expect("locked");
            lock = Some(tx);
        }
        Self { db, lock }
    }

    async fn end(self) {
        if let Some(lock) = self.lock {
            if engine() == DbBackend::MySql {
                let unlocked = lock.execute_unprepared("UNLOCK TABLES").await;
                unlocked.expect("unlocked");
            }
            lock.rollback().await.expect("unlocked");
        }
        self.db.close().await.expect("closed");
    }
}

async fn start(database: &Database, args: &[&str]) -> Process {
    let deadlines = ["--default-deadline", "2m", "--max-deadline", "2m"];
    limits::start(database, &[&deadlines, args].concat()).await
}

async fn create_role(channel: &Channel, token: Option<&str>) {
    let request = pb::CreateRoleRequest {
        name: "x".to_owned(),
        ..Default::default()
    };
    let created = RoleServiceClient::new(channel.clone())
        .create_role(with(request, token))
        .await;
    created.expect("created");
}

fn with<T>(message: T, token: Option<&str>) -> Request<T> {
    match token {
        Some(token) => auth::with(message, token),
        None => Request::new(message),
    }
}

/// Makes more concurrent `ListRoles` calls than there are connections.
fn list_roles(channel: &Channel, query: &str, token: Option<&str>) -> JoinSet<()> {
    let mut calls = JoinSet::new();
    for _ in 0..30 {
        let mut roles = RoleServiceClient::new(channel.clone());
        let request = pb::ListRolesRequest {
            query: query.to_owned(),
            ..Default::default()
        };
        let request = with(request, token);
        calls.spawn(async move {
            // The call fails or is cancelled.
            let _ = roles.list_roles(request).await;
        });
    }
    calls
}

const BUSY: &str = "group_service_pool_connections{pool=\"read\",state=\"busy\"}";
const QUEUED: &str = "group_service_calls_queued{class=\"read\"}";

#[tokio::test]
async fn slow_searches_of_one_caller_do_not_starve_others() {
    let database = Database::create().await;
    let server = start(&database, &[]).await;
    let slow = from("127.0.0.2", &server).await;
    create_role(&slow, None).await;
    let stuck = BlockedReads::begin(&database).await;
    let mut calls = list_roles(&slow, "x", None);
    until(&server, BUSY, |busy| busy >= 1.0).await;
    until(&server, QUEUED, |queued| queued >= 1.0).await;
    let mut users = UserServiceClient::new(server.connect().await);
    for _ in 0..20 {
        let mut list = Request::new(pb::ListUsersRequest::default());
        list.set_timeout(Duration::from_secs(30));
        users.list_users(list).await.expect("there is room");
    }
    // Cancelled calls hold no connection.
    calls.shutdown().await;
    if engine() == DbBackend::Sqlite {
        until(&server, BUSY, |busy| busy == 0.0).await;
    }
    stuck.end().await;
    until(&server, BUSY, |busy| busy == 0.0).await;
    server.stop().await;
}

/// Waits until a token is accepted or rejected, with a call that doesn't need the database.
pub(crate) async fn wait_until_accepted(channel: &Channel, token: &str, wanted: bool) {
    let mut groups = GroupServiceClient::new(channel.clone());
    let mut last = None;
    let changed = async {
        loop {
            let request = with(pb::GetGroupRequest::default(), Some(token));
            let status = groups.get_group(request).await.expect_err("it names none");
            if (status.code() != Code::Unauthenticated) == wanted {
                return;
            }
            last = Some(status);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let changed = tokio::time::timeout(Duration::from_secs(30), changed).await;
    assert!(changed.is_ok(), "in vain: {wanted}, {last:?}");
}

#[tokio::test]
async fn token_revocation_takes_effect_with_exhausted_pool() {
    let database = Database::create().await;
    let server = start(&database, &["--authentication", "required"]).await;
    let channel = server.connect().await;
    let (slow, victim) = (
        token(&database, "slow", "all").await,
        token(&database, "victim", "all").await,
    );
    create_role(&channel, Some(&slow)).await;
    wait_until_accepted(&channel, &victim, true).await;
    let stuck = BlockedReads::begin(&database).await;
    let calls = list_roles(&channel, "", Some(&slow));
    until(&server, QUEUED, |queued| queued >= 1.0).await;
    revoke(&database, "victim").await;
    wait_until_accepted(&channel, &victim, false).await;
    drop(calls);
    stuck.end().await;
    server.stop().await;
}

#[tokio::test]
async fn token_revocation_takes_effect_on_all_instances_under_slow_searches() {
    let database = Arc::new(Database::create().await);
    let mut servers = vec![start(&database, &["--authentication", "required"]).await];
    // Only one process can open a SQLite file.
    if engine() != DbBackend::Sqlite {
        servers.push(start(&database, &["--authentication", "required"]).await);
    }
    let (slow, victim) = (
        token(&database, "slow", "all").await,
        token(&database, "victim", "all").await,
    );
    let mut channels = Vec::new();
    for server in &servers {
        channels.push(server.connect().await);
    }
    let mut users = UserServiceClient::new(channels[0].clone());
    for number in 0..100 {
        let created = users
            .create_user(with(single_letter_user(number), Some(&slow)))
            .await;
        created.expect("created");
    }
    let (stop, done) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut searches = JoinSet::new();
    for channel in channels
        .iter()
        .flat_map(|channel| std::iter::repeat_n(channel.clone(), 8))
    {
        let (stop, done, slow) = (stop.clone(), done.clone(), slow.clone());
        searches.spawn(async move {
            let mut users = UserServiceClient::new(channel);
            while !stop.load(Ordering::Relaxed) {
                let request = pb::ListUsersRequest {
                    query: format!("{}b", "⨌".repeat(254)),
                    ..Default::default()
                };
                if users.list_users(with(request, Some(&slow))).await.is_ok() {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    for channel in &channels {
        wait_until_accepted(channel, &victim, true).await;
    }
    revoke(&database, "victim").await;
    for channel in &channels {
        wait_until_accepted(channel, &victim, false).await;
    }
    stop.store(true, Ordering::Relaxed);
    searches.join_all().await;
    assert!(done.load(Ordering::Relaxed) > 0, "nobody has searched");
    for server in servers {
        server.stop().await;
    }
}
