//! SIGKILL during writes: acknowledged writes are durable, and no write is partially visible.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use group_service::pb;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use tokio::task::JoinSet;

use crate::{
    group::{create, update},
    harness::{Database, Process},
};

const CRASHES: usize = 20;
const WRITERS: usize = 16;

/// The state of a group: title, roles, and whether the user is in it.
type State = (String, Vec<String>, bool);
/// Acknowledged groups, each with its possible states: the one last acknowledged, and the one that an in-flight
/// call would lead to.
type Acknowledged = BTreeMap<String, Vec<State>>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crash_loses_no_acknowledged_write() {
    let database = Database::create().await;
    let server = Process::start(database.url()).await;
    let (_, mut roles, mut users) = server.clients().await;
    let mut role_ids = Vec::new();
    for number in 0..3 {
        let request = pb::CreateRoleRequest {
            name: format!("role {number}"),
            ..Default::default()
        };
        let role = roles
            .create_role(request)
            .await
            .expect("created")
            .into_inner()
            .role;
        role_ids.push(role.expect("a role").id);
    }
    let request = pb::CreateUserRequest {
        username: "ann".into(),
        ..Default::default()
    };
    let user = users
        .create_user(request)
        .await
        .expect("created")
        .into_inner()
        .user
        .expect("a user");
    drop((roles, users));

    let acknowledged = Arc::new(Mutex::new(Acknowledged::new()));
    let mut server = server;
    for crash in 0..CRASHES {
        let before = acknowledged.lock().expect("no writer panics").len();
        let mut writers = JoinSet::new();
        for writer in 0..WRITERS {
            let channel = server.connect().await;
            let (acknowledged, role_ids) = (acknowledged.clone(), role_ids.clone());
            let user_id = user.id.clone();
            writers.spawn(async move {
                let prefix = format!("{crash}.{writer}");
                write(channel, &prefix, &role_ids, &user_id, &acknowledged).await;
            });
        }
        // Killed during writes, after a different number of acknowledged groups each time.
        let enough = before + 20 + crash * 5;
        let reached = async {
            while acknowledged.lock().expect("no writer panics").len() < enough {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), reached)
            .await
            .expect("the writers write");
        server.kill().await;
        // Writers end when their connection breaks.
        writers.join_all().await;

        server = Process::start(database.url()).await;
        let (mut groups, ..) = server.clients().await;
        let there = everything(&mut groups, &user.id).await;
        for (id, expected) in acknowledged.lock().expect("no writer panics").iter() {
            let state = there
                .get(id)
                .unwrap_or_else(|| panic!("crash {crash}: {expected:?} is lost"));
            assert!(
                expected.contains(state),
                "crash {crash}: {state:?} is not of {expected:?}"
            );
        }
        for (id, (title, roles, _)) in &there {
            assert!(
                !roles.is_empty(),
                "crash {crash}: half a group {id} {title}"
            );
        }
        // In-flight writes may have been committed without an acknowledgement: continue from the actual state.
        *acknowledged.lock().expect("no writer panics") = there
            .into_iter()
            .map(|(id, state)| (id, vec![state]))
            .collect();
        assert_consistent(&database).await;
    }
    server.stop().await;
    assert_consistent(&database).await;
}

/// Writes until the connection breaks; records acknowledged and possible states.
async fn write(
    channel: tonic::transport::Channel,
    prefix: &str,
    role_ids: &[String],
    user_id: &str,
    acknowledged: &Mutex<Acknowledged>,
) {
    let mut groups = pb::group_service_client::GroupServiceClient::new(channel);
    for number in 0.. {
        let title = format!("{prefix}.{number}");
        let ids: Vec<_> = role_ids.iter().map(String::as_str).collect();
        let request = pb::CreateGroupRequest {
            request_id: crate::harness::unknown_id(),
            ..create(&title, &ids)
        };
        let Ok(group) = groups.create_group(request).await else {
            return;
        };
        let id = group.into_inner().group.expect("a group").id;
        let may_be = |states: &[&State]| {
            let states = states.iter().map(|state| (*state).clone()).collect();
            acknowledged
                .lock()
                .expect("no writer panics")
                .insert(id.clone(), states);
        };
        let created = (title.clone(), role_ids.to_vec(), false);
        let assigned = (title.clone(), role_ids.to_vec(), true);
        let renamed = (format!("{title} renamed"), role_ids[..2].to_vec(), true);

        may_be(&[&created, &assigned]);
        let request = pb::AssignUserRequest {
            request_id: crate::harness::unknown_id(),
            ..crate::member::assign(&id, user_id)
        };
        if groups.assign_user(request).await.is_err() {
            return;
        }
        may_be(&[&assigned, &renamed]);
        let request = pb::UpdateGroupRequest {
            title: Some(renamed.0.clone()),
            remove_role_ids: vec![role_ids[2].clone()],
            ..update(&id)
        };
        if groups.update_group(request).await.is_err() {
            return;
        }
        may_be(&[&renamed]);
    }
}

async fn everything(
    groups: &mut pb::group_service_client::GroupServiceClient<tonic::transport::Channel>,
    user_id: &str,
) -> BTreeMap<String, State> {
    let mut all = BTreeMap::new();
    for (filter, member) in [("", false), (user_id, true)] {
        let mut request = pb::ListGroupsRequest {
            page_size: 1000,
            user_id: filter.into(),
            ..Default::default()
        };
        loop {
            let page = groups
                .list_groups(request.clone())
                .await
                .expect("listed")
                .into_inner();
            for group in page.groups {
                let roles = group.roles.into_iter().map(|role| role.id).collect();
                all.insert(group.id, (group.title, roles, member));
            }
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
    }
    all
}

/// Checks the database directly: its integrity, foreign keys and stored counts.
pub(crate) async fn assert_consistent(database: &Database) {
    let db = database.connect().await;
    if db.get_database_backend() == DbBackend::Sqlite {
        assert_eq!(strings(&db, "PRAGMA integrity_check").await, ["ok"]);
        let dangling = "SELECT \"table\" FROM pragma_foreign_key_check";
        assert_eq!(strings(&db, dangling).await, [""; 0]);
        for (table, name) in [("groups", "group"), ("roles", "role"), ("users", "user")] {
            let unlike = format!(
                "SELECT 'unlike' FROM (SELECT id FROM \"{table}\" EXCEPT SELECT id FROM {name}_search)
                 UNION ALL
                 SELECT 'unlike' FROM (SELECT id FROM {name}_search EXCEPT SELECT id FROM \"{table}\")"
            );
            assert_eq!(strings(&db, &unlike).await, [""; 0], "what is searched");
        }
    }
    for (what, sql) in [
        (
            "role_count",
            "SELECT title FROM \"groups\" g WHERE role_count < 1
               OR role_count <> (SELECT count(*) FROM group_roles WHERE group_id = g.id)",
        ),
        (
            "user_count",
            "SELECT title FROM \"groups\" g
              WHERE user_count <> (SELECT count(*) FROM group_users WHERE group_id = g.id)",
        ),
        (
            "group_count",
            "SELECT name FROM roles r
              WHERE group_count <> (SELECT count(*) FROM group_roles WHERE role_id = r.id)",
        ),
        (
            "count of all groups",
            "SELECT 'wrong' FROM directory
              WHERE group_count <> (SELECT count(*) FROM \"groups\")",
        ),
        (
            "sort keys of members",
            "SELECT u.username FROM group_users gu
               JOIN users u ON u.id = gu.user_id JOIN \"groups\" g ON g.id = gu.group_id
              WHERE gu.username_sort <> u.username_sort OR gu.title_sort <> g.title_sort
                 OR gu.group_created_at <> g.created_at",
        ),
        (
            "sort keys of roles",
            "SELECT g.title FROM group_roles gr JOIN \"groups\" g ON g.id = gr.group_id
              WHERE gr.title_sort <> g.title_sort OR gr.group_created_at <> g.created_at",
        ),
        (
            "revisions",
            "SELECT 'gap' FROM directory
              WHERE revision - oldest_revision + 1 <> (SELECT count(DISTINCT revision) FROM changes)",
        ),
        (
            "indexes",
            "SELECT 'gap' FROM changes GROUP BY revision HAVING max(ordinal) + 1 <> count(*)",
        ),
        (
            "kept requests",
            "SELECT 'unknown' FROM changes
              WHERE request_id IS NOT NULL AND request_id NOT IN (SELECT id FROM requests)",
        ),
    ] {
        assert_eq!(strings(&db, sql).await, [""; 0], "wrong {what}");
    }
    db.close().await.expect("closes");
}

/// Runs a statement in the common SQL of all engines; returns the first column.
pub(crate) async fn strings(db: &DatabaseConnection, sql: &str) -> Vec<String> {
    let backend = db.get_database_backend();
    // MySQL quotes identifiers with backticks.
    let quote = if backend == DbBackend::MySql {
        "`"
    } else {
        "\""
    };
    let statement = Statement::from_string(backend, sql.replace('"', quote));
    let rows = db
        .query_all_raw(statement)
        .await
        .expect("the statement runs");
    rows.iter()
        .map(|row| row.try_get_by_index(0).expect("a text"))
        .collect()
}
