//! Backup and restore of SQLite files; database servers have their own tools.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
};

use group_service::pb::{
    self, change_service_client::ChangeServiceClient, role_service_client::RoleServiceClient,
};
use sea_orm::{ConnectionTrait, DbBackend};
use tokio::task::JoinSet;
use tonic::Request;

use crate::{
    change_replay::{Directory, Ids, random_operation, replay},
    crash::assert_consistent,
    harness::{Database, Process, binary, engine, expect_error},
    settings::{output, refused},
};

fn at(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

/// Runs the program on a database.
async fn run(database: &Path, args: &[&str]) -> Output {
    output(&[args, &["--database-url", &at(database)]].concat(), &[]).await
}

/// Parses the report about a backup: values by name.
fn parse_report(output: &Output) -> BTreeMap<String, String> {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    let text = String::from_utf8(output.stdout.clone()).expect("text");
    let lines = text
        .lines()
        .map(|line| line.split_once(' ').expect("a name"));
    lines
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

async fn backup(database: &Path, file: &Path) -> BTreeMap<String, String> {
    parse_report(&run(database, &["backup", file.to_str().expect("UTF-8")]).await)
}

fn names_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("listed");
    let mut names: Vec<_> = entries
        .map(|entry| {
            entry
                .expect("listed")
                .file_name()
                .into_string()
                .expect("a name")
        })
        .collect();
    names.sort_unstable();
    names
}

/// Creates a database with some data, and a backup of it; the server is stopped.
async fn stage(dir: &Path) -> (PathBuf, PathBuf) {
    let (database, file) = (dir.join("shop.db"), dir.join("backup.db"));
    let server = Process::start(&at(&database)).await;
    let (channel, ids) = (server.connect().await, Ids::new());
    for number in 0..300 {
        let _ = random_operation(&channel, &ids, number * 7919).await;
    }
    server.stop().await;
    backup(&database, &file).await;
    (database, file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backup_under_load_is_a_consistent_snapshot() {
    let dir = tempfile::tempdir().expect("a directory");
    let database = dir.path().join("shop.db");
    let server = Process::start(&at(&database)).await;
    let ids = Ids::new();
    let mut writers = JoinSet::new();
    for writer in 0..4_u64 {
        let (channel, ids) = (server.connect().await, ids.clone());
        writers.spawn(async move {
            for number in 0.. {
                let _ =
                    random_operation(&channel, &ids, (writer * 1_000_003 + number) * 7919).await;
            }
        });
    }
    let mut roles = RoleServiceClient::new(server.connect().await);
    let mut backups = Vec::new();
    for number in 0..5 {
        let request = pb::CreateRoleRequest {
            name: format!("acknowledged before backup {number}"),
            ..Default::default()
        };
        let acknowledged = roles.create_role(request).await.expect("created");
        let file = dir.path().join(format!("backup-{number}.db"));
        let held = backup(&database, &file).await;
        let revision: i64 = held["revision"].parse().expect("a number");
        assert!(revision >= acknowledged.into_inner().revision);
        let mode = file.metadata().expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "people's names are in it");
        backups.push((file, revision));
    }
    writers.shutdown().await;
    let (_, all) = replay(&server.connect().await, 0).await;
    server.stop().await;

    for (file, revision) in backups {
        let restored = dir.path().join("restored.db");
        let args = ["restore", file.to_str().expect("UTF-8")];
        parse_report(&run(&restored, &args).await);
        assert_consistent(&Database::at(&restored)).await;
        let server = Process::start(&at(&restored)).await;
        let channel = server.connect().await;
        let (directory, changes) = replay(&channel, 0).await;
        let until = all.iter().take_while(|change| change.revision <= revision);
        assert!(changes.iter().eq(until), "{file:?}");
        assert_eq!(Directory::read_lists(channel, revision).await, directory);
        server.stop().await;
        std::fs::remove_file(restored).expect("removed");
    }
    assert!(
        !names_in(dir.path())
            .iter()
            .any(|name| name.contains("partial"))
    );
}

#[tokio::test]
async fn restore_keeps_tokens_and_idempotent_responses_with_new_history_id() {
    let dir = tempfile::tempdir().expect("a directory");
    let (database, file) = (dir.path().join("shop.db"), dir.path().join("backup.db"));
    let start = async |path: &Path| {
        let mut command = binary();
        command.args(["--listen", "127.0.0.1:0", "--authentication", "required"]);
        command.args(["--database-url", &at(path)]);
        Process::spawn(command).await
    };
    parse_report(&run(&database, &["migrate", "up"]).await);
    let args = ["token", "create", "till", "--permissions", "all"];
    let token = String::from_utf8(run(&database, &args).await.stdout).expect("text");
    let bearer = format!("Bearer {}", token.trim());
    let create = pb::CreateRoleRequest {
        name: "Clerk".into(),
        request_id: crate::harness::unknown_id(),
        ..Default::default()
    };
    macro_rules! known {
        ($message:expr) => {{
            let mut request = Request::new($message);
            let value = bearer.parse().expect("ASCII");
            request.metadata_mut().insert("authorization", value);
            request
        }};
    }
    let server = start(&database).await;
    let mut roles = RoleServiceClient::new(server.connect().await);
    let first = roles
        .create_role(known!(create.clone()))
        .await
        .expect("created");
    let mut changes = ChangeServiceClient::new(server.connect().await);
    let all = pb::ListChangesRequest::default();
    let listed = changes
        .list_changes(known!(all.clone()))
        .await
        .expect("listed");
    let old = listed.into_inner().history_id;
    let was = backup(&database, &file).await;
    assert_eq!(was["history_id"], old);
    server.stop().await;
    std::fs::remove_file(&database).expect("removed");

    let now = parse_report(&run(&database, &["restore", file.to_str().expect("UTF-8")]).await);
    assert_ne!(now["history_id"], old);
    for name in [
        "revision",
        "oldest_revision",
        "last_change",
        "groups",
        "roles",
        "users",
    ] {
        assert_eq!(now[name], was[name], "{name}");
    }
    let server = start(&database).await;
    let mut roles = RoleServiceClient::new(server.connect().await);
    let again = roles.create_role(known!(create)).await.expect("answered");
    assert_eq!(again.into_inner(), first.into_inner());
    let mut changes = ChangeServiceClient::new(server.connect().await);
    let follow = |history_id: &str| pb::WatchChangesRequest {
        from_revision: 1,
        history_id: history_id.to_owned(),
        ..Default::default()
    };
    let mislead = expect_error(match changes.watch_changes(known!(follow(&old))).await {
        Ok(stream) => stream
            .into_inner()
            .message()
            .await
            .map(tonic::Response::new),
        Err(status) => Err(status),
    });
    assert_eq!(mislead.reason, "REVISION_UNKNOWN");
    for history_id in ["", &now["history_id"]] {
        let followed = changes.watch_changes(known!(follow(history_id))).await;
        let mut followed = followed.expect("followed").into_inner();
        let part = followed.message().await.expect("told").expect("changes");
        assert_eq!(part.history_id, now["history_id"]);
        assert_eq!(part.changes.len(), 1);
    }
    server.stop().await;
}

#[tokio::test]
async fn killed_backup_leaves_no_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let (database, _) = stage(dir.path()).await;
    let file = dir.path().join("killed.db");
    // Large enough for the backup to take noticeable time.
    let db = Database::at(&database).connect().await;
    let large = "INSERT INTO requests WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1500)
                 SELECT randomblob(16), randomblob(32), randomblob(100000), 0 FROM n";
    db.execute_unprepared(large).await.expect("filled");
    db.close().await.expect("closes");
    let partial = dir.path().join("killed.db.partial");
    for signal in ["KILL", "TERM"] {
        let mut command = binary();
        command.args(["backup", file.to_str().expect("UTF-8")]);
        command.args(["--database-url", &at(&database)]);
        let mut child = command
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("it starts");
        // Start the signal's sender before waiting for the copy, which may finish quickly.
        let pid = child.id().expect("at work").to_string();
        let mut sender = std::process::Command::new("sh")
            .args(["-c", "read -r _; kill -s \"$0\" \"$1\"", signal, &pid])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("sh runs");
        let at_work = async {
            while partial.metadata().map_or(0, |metadata| metadata.len()) == 0 {
                tokio::task::yield_now().await;
            }
        };
        let at_work = tokio::time::timeout(std::time::Duration::from_secs(30), at_work).await;
        at_work.expect("it copies");
        drop(sender.stdin.take());
        assert!(sender.wait().expect("it ends").success());
        let status = child.wait().await.expect("it ends");
        assert!(!status.success(), "{signal}: it was too fast");
        assert!(!file.exists(), "{signal}");
        if signal == "KILL" {
            let line = refused(&run(&database, &["backup", file.to_str().expect("UTF-8")]).await);
            assert!(line.contains("killed.db.partial is there"), "{line}");
            std::fs::remove_file(&partial).expect("removed");
        }
        assert!(
            !partial.exists(),
            "{signal}: it takes away what is half done"
        );
    }
    backup(&database, &file).await;
}

#[tokio::test]
async fn restore_rejects_corrupt_backups_without_changes() {
    let dir = tempfile::tempdir().expect("a directory");
    let (_, file) = stage(dir.path()).await;
    let whole = std::fs::read(&file).expect("read");
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("text"), "Dear diary, this is no database at all.").expect("written");
    std::fs::write(path("empty"), "").expect("written");
    std::fs::write(path("truncated"), &whole[..whole.len() / 2]).expect("written");
    let mut corrupt = whole.clone();
    for page in corrupt.chunks_mut(4096).skip(20).step_by(7) {
        page[..64].fill(0x5a);
    }
    std::fs::write(path("corrupt"), corrupt).expect("written");
    let altered = async |name: &str, statements: &str| {
        std::fs::copy(&file, path(name)).expect("copied");
        let db = Database::at(&path(name)).connect().await;
        db.execute_unprepared(statements).await.expect(name);
        db.close().await.expect("closes");
    };
    let foreign = Database::with_url(&format!("{}?mode=rwc", at(&path("foreign"))));
    let foreign = foreign.connect().await;
    let diary = foreign
        .execute_unprepared("CREATE TABLE diary (day TEXT)")
        .await;
    diary.expect("created");
    foreign.close().await.expect("closes");
    let newer = "INSERT INTO seaql_migrations VALUES ('m20991231_000001_future', 0)";
    altered("newer", newer).await;
    altered(
        "counts",
        "UPDATE directory SET group_count = group_count + 1",
    )
    .await;
    altered("users", "UPDATE \"groups\" SET user_count = user_count + 1").await;
    altered("roles", "UPDATE roles SET group_count = group_count + 1").await;
    let gap = "DELETE FROM changes WHERE revision = 2";
    altered("gap", gap).await;
    let beyond = "UPDATE directory SET revision = revision - 1";
    altered("beyond", beyond).await;
    altered(
        "part",
        "UPDATE changes SET ordinal = 999 WHERE revision = 2 AND ordinal = 0",
    )
    .await;
    let dangling = "PRAGMA foreign_keys = OFF;
                    INSERT INTO role_rules VALUES (randomblob(16), 'a', 'b', 'c', 1)";
    altered("dangling", dangling).await;
    altered(
        "older",
        "DELETE FROM seaql_migrations WHERE version LIKE '%large%'",
    )
    .await;
    std::fs::create_dir(path("directory")).expect("created");

    let before = names_in(dir.path());
    for (name, part) in [
        ("text", "it is not a SQLite database"),
        ("empty", "there is nothing in it"),
        ("truncated", "malformed"),
        ("corrupt", "damaged"),
        ("foreign", "it holds the tables of another program"),
        ("newer", "a newer version of group-service"),
        ("older", "too old"),
        ("counts", "1 wrong counts of all groups"),
        ("users", "groups that count their users wrong"),
        ("roles", "roles that count their groups or rules wrong"),
        ("gap", "1 revisions missing from the history"),
        ("beyond", "revisions missing from the history"),
        ("part", "1 revisions that miss some of their changes"),
        ("dangling", "rows that refer to others which aren't there"),
        ("directory", "it is a directory"),
        ("nothing", "there is nothing in it"),
    ] {
        let file = path(name).display().to_string();
        let target = path("target.db");
        for args in [&["restore", &file][..], &["restore", "--check", &file]] {
            let output = run(&target, args).await;
            assert_eq!(output.status.code(), Some(2), "{name}: {output:?}");
            let line = refused(&output);
            assert!(line.contains(part), "{name}: {line}");
            assert!(
                line.contains(&format!("can't restore {file}: ")),
                "{name}: {line}"
            );
            assert_eq!(names_in(dir.path()), before, "{name}");
        }
    }
    let args = ["restore", "--check", file.to_str().expect("UTF-8")];
    parse_report(&run(&path("target.db"), &args).await);
    assert_eq!(std::fs::read(&file).expect("read"), whole);
    assert_eq!(names_in(dir.path()), before);
}

#[tokio::test]
async fn backup_never_overwrites_existing_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let (database, file) = stage(dir.path()).await;
    let name = file.to_str().expect("UTF-8");
    let before = std::fs::read(&file).expect("read");
    let line = refused(&run(&database, &["backup", name]).await);
    assert!(line.contains("backup.db is there already"), "{line}");
    assert_eq!(std::fs::read(&file).expect("read"), before);

    // Restore overwrites neither a served database, nor an existing one, nor leftover files of one.
    let server = Process::start(&at(&database)).await;
    let line = refused(&run(&database, &["restore", name]).await);
    assert!(line.contains("shop.db is there: stop the server"), "{line}");
    std::fs::rename(&database, dir.path().join("moved.db")).expect("moved");
    let line = refused(&run(&database, &["restore", name]).await);
    assert!(
        line.contains("shop.db-wal is there: stop the server"),
        "{line}"
    );
    std::fs::rename(dir.path().join("moved.db"), &database).expect("moved back");
    server.stop().await;
    refused(&run(&database, &["restore", name]).await);
    let nothing = dir.path().join("nothing.db");
    let line = refused(&run(&nothing, &["backup", "x.db"]).await);
    assert!(line.contains("there is nothing there yet"), "{line}");
    let line = refused(&run(&database, &["backup", "/no/where.db"]).await);
    assert!(
        line.contains("/no/where.db.partial can't be created"),
        "{line}"
    );
}

#[tokio::test]
async fn restore_requires_force_while_server_holds_the_lock() {
    let dir = tempfile::tempdir().expect("a directory");
    let (database, file) = stage(dir.path()).await;
    let restore = ["restore", file.to_str().expect("UTF-8")];
    let server = Process::start(&at(&database)).await;
    // Move the database files but not the lock, like `mv shop.db* before`.
    let before = dir.path().join("before");
    std::fs::create_dir(&before).expect("created");
    for name in names_in(dir.path()) {
        if name.starts_with("shop.db") {
            std::fs::rename(dir.path().join(&name), before.join(&name)).expect("moved");
        }
    }
    let there = names_in(dir.path());
    let line = refused(&run(&database, &restore).await);
    assert!(line.contains("a server has it open"), "{line}");
    assert_eq!(names_in(dir.path()), there);

    parse_report(&run(&database, &[&restore[..], &["--force"]].concat()).await);
    let (_, mut roles, _) = server.clients().await;
    let request = pb::CreateRoleRequest {
        name: "lost".into(),
        ..Default::default()
    };
    let refused = expect_error(roles.create_role(request).await);
    assert_eq!(refused.reason, "DATABASE_UNAVAILABLE");
    server.stop().await;
    let server = Process::start(&at(&database)).await;
    let (_, mut roles, _) = server.clients().await;
    let listed = roles.list_roles(pb::ListRolesRequest::default()).await;
    assert!(!listed.expect("listed").into_inner().roles.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn database_servers_reject_backup_and_support_new_history() {
    let database = Database::create().await;
    if engine() != DbBackend::Sqlite {
        for args in [["backup", "x.db"], ["restore", "x.db"]] {
            let args = [&args[..], &["--database-url", database.url()]].concat();
            let line = refused(&output(&args, &[]).await);
            assert!(line.contains("use pg_dump or mariadb-dump"), "{line}");
        }
    }
    let history = async || {
        let server = Process::start(database.url()).await;
        let mut changes = ChangeServiceClient::new(server.connect().await);
        let listed = changes
            .list_changes(pb::ListChangesRequest::default())
            .await;
        server.stop().await;
        listed.expect("listed").into_inner().history_id
    };
    let old = history().await;
    let reported =
        parse_report(&output(&["new-history", "--database-url", database.url()], &[]).await);
    assert_ne!(reported["history_id"], old);
    assert_eq!(history().await, reported["history_id"]);
}
