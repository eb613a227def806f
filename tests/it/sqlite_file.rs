//! SQLite database files: foreign, moved, replaced, read-only and locked ones, and their permissions.

use std::{
    collections::BTreeMap,
    os::unix::{
        fs::{PermissionsExt, symlink},
        process::CommandExt,
    },
    path::Path,
    time::Duration,
};

use group_service::pb::{self, role_service_client::RoleServiceClient};
use migrations::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, Database};
use tokio::{task::JoinSet, time::timeout};
use tonic::{Code, transport::Channel};
use tonic_health::{ServingStatus, pb::health_client::HealthClient};

use crate::{
    crash::strings,
    harness::{Process, binary, expect_error, skip_test},
    outage::until,
    settings::{output, refused},
};

#[tokio::test]
async fn foreign_database_file_is_rejected_unchanged() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    std::fs::create_dir(path("directory")).expect("created");
    std::fs::write(path("text"), "Dear diary, this is no database at all.").expect("written");
    std::fs::write(path("short"), "SQLite").expect("written");
    std::fs::write(
        path("header"),
        b"SQLite format 3\0 but then something else entirely",
    )
    .expect("written");
    let made = std::process::Command::new("mkfifo")
        .arg(path("pipe"))
        .status();
    assert!(made.expect("mkfifo runs").success());
    foreign(&path("foreign"), &["CREATE TABLE diary (day TEXT)"]).await;
    Process::start(&at(&path("newer"))).await.stop().await;
    foreign(
        &path("newer"),
        &["INSERT INTO seaql_migrations VALUES ('m20991231_000001_future', 0)"],
    )
    .await;

    for (name, part) in [
        ("directory", "it is a directory"),
        ("text", "it is not a SQLite database"),
        ("short", "it is not a SQLite database"),
        ("header", "file is not a database"),
        ("foreign", "it holds the tables of another program"),
        ("newer", "a newer version of group-service"),
        ("no/where", "there is no directory"),
        ("pipe", "it is not a file"),
        ("text/file", "text/file"),
    ] {
        let before = everything_in(dir.path());
        let url = format!("sqlite:{}", path(name).display());
        let sentence =
            refused(&output(&["--listen", "127.0.0.1:0", "--database-url", &url], &[]).await);
        assert!(sentence.contains(part), "{name}: {sentence}");
        assert!(
            sentence.contains(&path(name).display().to_string()),
            "{name}: {sentence}"
        );
        assert_eq!(everything_in(dir.path()), before, "{name}");
    }
}

#[tokio::test]
async fn read_only_database_is_rejected() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("read-only.db");
    Process::start(&at(&path)).await.stop().await;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).expect("set");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("set");

    let as_nobody = |file: &Path| {
        // A copy of the program, which the user `nobody` can reach.
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(dir.path().join("group-service"));
        command.args(["--listen", "127.0.0.1:0", "--database-url"]);
        command.arg(format!("sqlite:{}", file.display()));
        command.process_group(0);
        command
    };
    let program = dir.path().join("group-service");
    std::fs::copy(env!("CARGO_BIN_EXE_group-service"), &program).expect("copied");
    let Ok(output) = as_nobody(&path).output() else {
        return skip_test("read_only_database_is_rejected", "there is no setpriv");
    };
    if String::from_utf8_lossy(&output.stderr).contains("setpriv:") {
        return skip_test("read_only_database_is_rejected", "it needs root");
    }
    assert!(refused(&output).contains("it can't be written (Permission denied"));
    let output = as_nobody(&dir.path().join("new.db"))
        .output()
        .expect("it starts");
    assert!(refused(&output).contains("it can't be created (Permission denied"));
}

#[tokio::test]
async fn startup_line_names_listen_address_and_database() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = binary();
    command
        .current_dir(dir.path())
        .args(["serve", "--listen", "127.0.0.1:0"]);
    let server = Process::spawn(command).await;
    let address = server.address;
    let data = dir
        .path()
        .canonicalize()
        .expect("a path")
        .join("group-service.db");
    let expected = format!(
        "group-service {} listens on {address}, data in {}; try: grpcurl -plaintext {address} list\n",
        env!("CARGO_PKG_VERSION"),
        data.display()
    );
    assert_eq!(server.start_line, expected);
    let (_, mut roles, _) = server.clients().await;
    let request = pb::CreateRoleRequest {
        name: "Editor".into(),
        ..Default::default()
    };
    let role = roles
        .create_role(request)
        .await
        .expect("created")
        .into_inner()
        .role;
    let log = server.stop().await;
    assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "{log}");

    // The next start, configured by variables, finds the data.
    let mut command = binary();
    command.env("GROUP_SERVICE_LISTEN", "[::1]:0");
    command.env(
        "GROUP_SERVICE_DATABASE_URL",
        format!("sqlite://{}", data.display()),
    );
    let server = Process::spawn(command).await;
    let (_, mut roles, _) = server.clients().await;
    let list = roles
        .list_roles(pb::ListRolesRequest::default())
        .await
        .expect("listed");
    assert_eq!(list.into_inner().roles, [role.expect("a role")]);
    server.stop().await;
    assert!(
        !dir.path().join("group-service.db-wal").exists(),
        "a clean end leaves one file"
    );
}

#[tokio::test]
async fn sqlite_path_is_not_parsed_as_uri() {
    let dir = tempfile::tempdir().expect("a directory");
    foreign(
        &dir.path().join("diary.db"),
        &["CREATE TABLE diary (day TEXT)"],
    )
    .await;
    let before = everything_in(dir.path());
    let mut command = binary();
    command
        .current_dir(dir.path())
        .args(["--listen", "127.0.0.1:0"]);
    command.args(["--database-url", "sqlite:file:diary.db"]);
    Process::spawn(command).await.stop().await;
    let mut after = everything_in(dir.path());
    let ours = dir
        .path()
        .canonicalize()
        .expect("a path")
        .join("file:diary.db")
        .display()
        .to_string();
    assert!(after.remove(&ours).is_some(), "{:?}", after.keys());
    assert_eq!(after, before);
}

#[tokio::test]
async fn sqlite_path_may_contain_question_mark_or_hash() {
    let dir = tempfile::tempdir().expect("a directory");
    for name in ["what?.db", "no #1.db", "a?b#c%3F d&e=f.db", "who=?=.db"] {
        let path = dir.path().join(name);
        for number in 1..=2 {
            let server = Process::start(&at(&path)).await;
            let mut roles = RoleServiceClient::new(server.connect().await);
            create_role(&mut roles, &format!("Role {number}"))
                .await
                .expect("created");
            assert_eq!(names_of_roles(&mut roles).await.len(), number, "{name}");
            server.stop().await;
        }
        assert!(path.is_file(), "{name}");
        let backup = dir.path().join(format!("backup of {name}"));
        let (url, backup) = (at(&path), backup.to_str().expect("UTF-8"));
        for args in [["backup", backup], ["token", "list"], ["restore", backup]] {
            if args[0] == "restore" {
                std::fs::remove_file(&path).expect("removed");
            }
            let args = [&args[..], &["--database-url", &url]].concat();
            let done = output(&args, &[]).await;
            assert!(done.status.success(), "{name}: {done:?}");
        }
        let server = Process::start(&url).await;
        let mut roles = RoleServiceClient::new(server.connect().await);
        assert_eq!(names_of_roles(&mut roles).await.len(), 2, "{name}");
        server.stop().await;
    }
}

#[tokio::test]
async fn moved_or_replaced_database_file_is_not_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let with_url = tempfile::tempdir().expect("a directory");
    let shift = |from: &Path, to: &Path| {
        for name in ["shop.db", "shop.db-wal", "shop.db-shm"] {
            std::fs::rename(from.join(name), to.join(name)).expect(name);
        }
    };
    let url = at(&dir.path().join("shop.db"));
    let server = Process::start(&url).await;
    let mut roles = RoleServiceClient::new(server.connect().await);
    let mut health = HealthClient::new(server.connect().await);
    create_role(&mut roles, "A").await.expect("created");
    until(&mut health, "", ServingStatus::Serving).await;

    // Writes are rejected at once, even before the probe detects the move.
    shift(dir.path(), with_url.path());
    let refused = expect_error(create_role(&mut roles, "lost").await);
    assert_eq!(refused.code, Code::Unavailable, "{refused:?}");
    assert_eq!(refused.reason, "DATABASE_UNAVAILABLE");
    until(&mut health, "", ServingStatus::NotServing).await;
    let refused = expect_error(create_role(&mut roles, "lost").await);
    assert_eq!(refused.code, Code::Unavailable, "{refused:?}");
    server
        .wait_for_log("the database file was moved away")
        .await;

    shift(with_url.path(), dir.path());
    until(&mut health, "", ServingStatus::Serving).await;
    create_role(&mut roles, "B").await.expect("created");
    assert_eq!(names_of_roles(&mut roles).await, ["A", "B"]);

    // Another file in its place, even with the same content.
    shift(dir.path(), with_url.path());
    for name in ["shop.db", "shop.db-wal"] {
        std::fs::copy(with_url.path().join(name), dir.path().join(name)).expect(name);
    }
    let refused = expect_error(create_role(&mut roles, "lost").await);
    assert_eq!(refused.code, Code::Unavailable, "{refused:?}");
    until(&mut health, "", ServingStatus::NotServing).await;
    server.wait_for_log("the database file was replaced").await;
    server.stop().await;

    let server = Process::start(&url).await;
    let mut roles = RoleServiceClient::new(server.connect().await);
    assert_eq!(names_of_roles(&mut roles).await, ["A", "B"]);
    server.stop().await;
}

#[tokio::test]
async fn second_server_on_same_file_is_rejected() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("shop.db");
    let link = dir.path().join("link.db");
    let first = Process::start(&at(&path)).await;
    symlink(&path, &link).expect("linked");
    let serve = ["--listen", "127.0.0.1:0", "--database-url"];
    for path in [&path, &link] {
        let line = refused(&output(&[&serve[..], &[&at(path)]].concat(), &[]).await);
        assert!(line.contains("a server has it open"), "{line}");
    }
    let url = at(&path);
    // Commands that need exclusive access are rejected as well.
    for command in [&["new-history"][..], &["migrate", "down"]] {
        let args = [command, &["--database-url", &url]].concat();
        let line = refused(&output(&args, &[]).await);
        assert!(line.contains("a server has it open"), "{line}");
    }
    // All other commands succeed.
    for command in [
        &["migrate", "status"][..],
        &["migrate", "up"],
        &["token", "list"],
    ] {
        let args = [command, &["--database-url", &url]].concat();
        let done = output(&args, &[]).await;
        assert!(done.status.success(), "{done:?}");
    }
    let mut roles = RoleServiceClient::new(first.connect().await);
    create_role(&mut roles, "A").await.expect("created");

    // A killed server leaves no lock behind.
    first.kill().await;
    let second = Process::start(&at(&path)).await;
    let mut roles = RoleServiceClient::new(second.connect().await);
    assert_eq!(names_of_roles(&mut roles).await, ["A"]);
    second.stop().await;
    let left: Vec<_> = everything_in(dir.path()).into_keys().collect();
    assert_eq!(left, [link, path].map(|path| path.display().to_string()));
}

#[tokio::test]
async fn concurrent_starts_on_new_file_leave_one_server() {
    for _ in 0..5 {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("new.db");
        let start = || {
            let mut command = binary();
            command.args(["--listen", "127.0.0.1:0", "--database-url", &at(&path)]);
            command.stdout(std::process::Stdio::piped());
            command.stderr(std::process::Stdio::piped());
            command.spawn().expect("it starts")
        };
        let mut refusals = JoinSet::new();
        for _ in 0..4 {
            refusals.spawn(start().wait_with_output());
        }
        for _ in 0..3 {
            let refusal = timeout(Duration::from_secs(30), refusals.join_next()).await;
            let refusal = refusal.expect("all but one are refused").expect("refused");
            let line = refused(&refusal.expect("no panic").expect("it ends"));
            assert!(line.contains("a server has it open"), "{line}");
        }
        assert!(refusals.try_join_next().is_none(), "the fourth one serves");
        refusals.shutdown().await;
    }
}

async fn create_role(
    roles: &mut RoleServiceClient<Channel>,
    name: &str,
) -> Result<tonic::Response<pb::CreateRoleResponse>, tonic::Status> {
    let request = pb::CreateRoleRequest {
        name: name.into(),
        ..Default::default()
    };
    roles.create_role(request).await
}

async fn names_of_roles(roles: &mut RoleServiceClient<Channel>) -> Vec<String> {
    let listed = roles.list_roles(pb::ListRolesRequest::default()).await;
    let roles = listed.expect("listed").into_inner().roles.into_iter();
    roles.map(|role| role.name).collect()
}

#[tokio::test]
async fn migrations_go_up_and_down() {
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!(
        "sqlite:{}?mode=rwc",
        dir.path().join("migrations.db").display()
    );
    let db = Database::connect(url).await.expect("opens");
    let schema = "SELECT name || coalesce(sql, '') FROM sqlite_schema ORDER BY name";
    Migrator::up(&db, None).await.expect("up");
    let up = strings(&db, schema).await;
    Migrator::down(&db, None).await.expect("down");
    let left = strings(
        &db,
        "SELECT name FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'",
    )
    .await;
    assert_eq!(left, ["seaql_migrations"]);
    Migrator::up(&db, None).await.expect("up again");
    assert_eq!(strings(&db, schema).await, up);

    // Every constraint has a name, except in tables that libraries create.
    let others = ["seaql_migrations", "_trigrams_"];
    for table in up.iter().filter(|sql| {
        sql.contains("CREATE TABLE") && !others.iter().any(|other| sql.contains(other))
    }) {
        for word in ["PRIMARY KEY", "UNIQUE", "CHECK", "FOREIGN KEY"] {
            let unnamed = table
                .lines()
                .find(|line| line.contains(word) && !line.contains("CONSTRAINT "));
            assert_eq!(unnamed, None);
        }
    }
}

async fn foreign(path: &Path, statements: &[&str]) {
    let db = Database::connect(format!("sqlite:{}?mode=rwc", path.display()))
        .await
        .expect("opens");
    for statement in statements {
        db.execute_unprepared(statement).await.expect(statement);
    }
    db.close().await.expect("closes");
}

/// All files below a directory with their contents.
fn everything_in(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(dir).expect("listed") {
        let path = entry.expect("listed").path();
        let name = path.display().to_string();
        if path.is_dir() {
            files.extend(everything_in(&path));
            files.insert(name, Vec::new());
        } else if path.is_file() {
            files.insert(name, std::fs::read(path).expect("read"));
        }
    }
    files
}

/// The database URL of a file.
fn at(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

/// A command that runs the program with umask 000, so that files get wide permissions unless their mode is set.
fn binary_for_everybody(url: &str) -> tokio::process::Command {
    let mut shell = tokio::process::Command::new("sh");
    shell.args(["-c", "umask 000 && exec \"$0\" \"$@\""]);
    shell.arg(env!("CARGO_BIN_EXE_group-service"));
    shell.args([
        "--listen",
        "127.0.0.1:0",
        "--log",
        "info",
        "--database-url",
        url,
    ]);
    shell.kill_on_drop(true);
    shell
}

#[tokio::test]
async fn database_files_are_readable_by_owner_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("shop.db");
    let server = Process::spawn(binary_for_everybody(&at(&path))).await;
    let mut roles = RoleServiceClient::new(server.connect().await);
    create_role(&mut roles, "A").await.expect("created");
    let mut backup = binary_for_everybody(&at(&path));
    backup.arg("backup").arg(dir.path().join("backup.db"));
    assert!(backup.status().await.expect("it runs").success());
    let mode = |name: &str| {
        let metadata = dir.path().join(name).metadata();
        metadata.expect("there").permissions().mode() & 0o777
    };
    let files = [
        "shop.db",
        "shop.db-wal",
        "shop.db-shm",
        ".shop.db.lock",
        "backup.db",
    ];
    for name in files {
        assert_eq!(mode(name), 0o600, "{name}");
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).expect("listed").count(),
        files.len()
    );
    let log = server.stop().await;
    assert!(!log.contains("chmod"), "{log}");
    // The mode of an existing file isn't changed; the start logs a warning.
    let wide = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&path, wide).expect("set");
    let server = Process::spawn(binary_for_everybody(&at(&path))).await;
    let log = server.stop().await;
    let warned = log.lines().find(|line| line.contains("chmod 600"));
    let warned = warned.expect("a warning");
    assert!(
        warned.contains("WARN") && warned.contains("0644") && warned.contains("shop.db"),
        "{warned}"
    );
    assert_eq!(mode("shop.db"), 0o644);
}
