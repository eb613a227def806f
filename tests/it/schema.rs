//! Migrations: applied once by concurrent starts, resumed after a crash, and never applied to another program's
//! database.

use std::{process::Output, time::Duration};

use sea_orm::{ConnectionTrait, DbBackend};
use tokio::task::JoinSet;

use crate::{
    crash::strings,
    harness::{Database, Process, binary, engine},
    settings::output,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_starts_on_empty_database_all_serve() {
    let database = Database::create().await;
    let mut starts = JoinSet::new();
    // Only one server can open a SQLite file.
    let servers = if engine() == DbBackend::Sqlite { 1 } else { 10 };
    for _ in 0..servers {
        let url = database.url().to_owned();
        starts.spawn(async move { Process::start(&url).await });
    }
    for server in starts.join_all().await {
        server.stop().await;
    }
    let db = database.connect().await;
    let versions = strings(&db, "SELECT version FROM seaql_migrations ORDER BY version").await;
    assert_eq!(
        versions,
        [
            "m20261123_000001_groups",
            "m20261123_000002_changes",
            "m20261124_000003_large_directories",
            "m20261125_000004_tokens_additive",
            "m20261128_000005_last_states_additive",
            "m20261128_000006_text_keys"
        ]
    );
    let rows = strings(&db, "SELECT 'one' FROM directory").await;
    assert_eq!(rows, ["one"]);
}

#[tokio::test]
async fn startup_completes_interrupted_migration() {
    for round in 0..10 {
        let database = Database::create().await;
        let mut killed = binary()
            .args(["--listen", "127.0.0.1:0", "--database-url", database.url()])
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("it starts");
        // Before, during or after the migration: the next start must succeed in every case.
        tokio::time::sleep(Duration::from_millis(10 + round * 8)).await;
        killed.kill().await.expect("killed");
        let server = Process::start(database.url()).await;
        let (_, mut roles, _) = server.clients().await;
        let request = group_service::pb::CreateRoleRequest {
            name: "A".into(),
            ..Default::default()
        };
        let created = roles.create_role(request).await.expect("created");
        assert_eq!(created.into_inner().revision, 1);
        server.stop().await;
    }
}

#[tokio::test]
async fn migrations_are_listed_reverted_and_reapplied() {
    let database = Database::create().await;
    let run = async |step: &str| {
        let output = output(&["migrate", step, "--database-url", database.url()], &[]).await;
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{complaint}");
        String::from_utf8(output.stdout).expect("text")
    };
    let done = "m20261123_000001_groups  applied\nm20261123_000002_changes  applied\n\
                m20261124_000003_large_directories  applied\nm20261125_000004_tokens_additive  applied\n\
                m20261128_000005_last_states_additive  applied\n\
                m20261128_000006_text_keys  applied\n";
    assert_eq!(run("up").await, done);
    assert_eq!(run("status").await, done);
    let page = include_str!("../../docs/operations.md");
    let example = format!("$ group-service migrate status\n{done}```");
    assert!(
        page.contains(&example),
        "docs/operations.md should have {done}"
    );
    assert_eq!(
        run("down").await,
        "m20261123_000001_groups  applied\nm20261123_000002_changes  applied\n\
         m20261124_000003_large_directories  applied\nm20261125_000004_tokens_additive  applied\n\
         m20261128_000005_last_states_additive  applied\n\
         m20261128_000006_text_keys  pending\n"
    );
    assert_eq!(run("up").await, done);
    assert_eq!(run("down").await, run("status").await);
    run("down").await;
    run("down").await;
    run("down").await;
    run("down").await;
    assert_eq!(run("up").await, done);
    Process::start(database.url()).await.stop().await;
}

#[tokio::test]
async fn older_version_accepts_additive_migrations_only() {
    let database = Database::create().await;
    Process::start(database.url()).await.stop().await;
    let db = database.connect().await;
    let record = async |name: &str| {
        let sql =
            format!("INSERT INTO seaql_migrations (version, applied_at) VALUES ('{name}', 0)");
        db.execute_unprepared(&sql).await.expect("recorded");
    };
    record("m29990101_000001_colours_additive").await;
    Process::start(database.url()).await.stop().await;
    record("m29990101_000002_colours").await;
    let refused = start_on(database.url()).await;
    assert_eq!(refused.status.code(), Some(2));
    let complaint = String::from_utf8_lossy(&refused.stderr);
    assert!(
        complaint
            .contains("newer version of group-service (its schema has m29990101_000002_colours)"),
        "{complaint}"
    );
}

/// Runs a server on a database and a free port until it exits; returns its output.
pub(crate) async fn start_on(url: &str) -> Output {
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--database-url",
        url,
        "--log",
        "off",
    ];
    output(&args, &[]).await
}

#[tokio::test]
async fn foreign_tables_are_left_unchanged() {
    let database = Database::create().await;
    if engine() == DbBackend::Sqlite {
        // SQLite files are covered by the tests in `sqlite_file`.
        return;
    }
    let db = database.connect().await;
    db.execute_unprepared("CREATE TABLE users (id INTEGER PRIMARY KEY)")
        .await
        .expect("created");
    let refused = start_on(database.url()).await;
    assert_eq!(refused.status.code(), Some(2));
    let complaint = String::from_utf8_lossy(&refused.stderr);
    assert!(
        complaint.contains("it holds the tables of another program"),
        "{complaint}"
    );
    let tables = match engine() {
        DbBackend::Postgres => {
            "SELECT tablename::text FROM pg_tables WHERE schemaname = current_schema()"
        }
        _ => {
            "SELECT CONVERT(table_name USING utf8mb4) FROM information_schema.tables WHERE table_schema = DATABASE()"
        }
    };
    assert_eq!(strings(&db, tables).await, ["users"]);
}

#[tokio::test]
async fn connection_errors_are_one_sentence_without_password() {
    let database = Database::create().await;
    if engine() == DbBackend::Sqlite {
        return;
    }
    let url = database.url();
    let (login, host) = url.rsplit_once('@').expect("a login");
    let (scheme, _) = login.split_once("://").expect("a scheme");
    let (server, name) = host.rsplit_once('/').expect("a database");
    let (user, _) = login.rsplit_once(':').expect("a password");
    for (url, shown) in [
        (format!("{user}:wr0ng@{host}"), format!("{server}/{name}")),
        (
            format!("{scheme}://nobody:wr0ng@{host}"),
            format!("{server}/{name}"),
        ),
        (
            format!("{login}@{server}/no_such_database"),
            format!("{server}/no_such_database"),
        ),
    ] {
        let refused = start_on(&url).await;
        assert_eq!(refused.status.code(), Some(2));
        let complaint = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(complaint.lines().count(), 1, "{complaint}");
        assert!(complaint.contains(&shown), "{complaint}");
        assert!(!complaint.contains("wr0ng"), "{complaint}");
    }
}
