//! The program: its settings, its start, its data, and its end.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::Path,
    process::Output,
    time::Duration,
};

use group_service::pb;
use migrations::{Migrator, MigratorTrait};
use sea_orm::{ConnectionTrait, Database};
use tokio::task::JoinSet;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use crate::{
    crash::strings,
    group::create,
    harness::{Process, binary, not_run},
};

async fn output(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = binary();
    command
        .args(args)
        .envs(variables.iter().copied())
        .current_dir(dir.path());
    let output = tokio::time::timeout(Duration::from_secs(30), command.output()).await;
    output.expect("it ends").expect("it starts")
}

/// One sentence on standard error, exit code 2, and nothing else.
fn refused(output: &Output) -> String {
    let stderr = String::from_utf8(output.stderr.clone()).expect("text");
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    assert!(stderr.starts_with("error: "), "{stderr}");
    for noise in ["panicked", "Error {", "backtrace", "secret"] {
        assert!(!stderr.contains(noise), "{stderr}");
    }
    stderr
}

#[tokio::test]
async fn a_wrong_setting_is_one_sentence_and_exit_code_2() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let dir = tempfile::tempdir().expect("a directory");
    let url = format!("sqlite:{}", dir.path().join("new.db").display());
    for (args, part) in [
        (
            &["--listen", "nonsense"][..],
            "must be an IP address and a port",
        ),
        (
            &["--listen", "127.0.0.1"],
            "must be an IP address and a port",
        ),
        (
            &["--listen", "300.0.0.1:1"],
            "must be an IP address and a port",
        ),
        (
            &["--listen", "127.0.0.1:65536"],
            "must be an IP address and a port",
        ),
        (&["--listen", ""], "--listen"),
        (&["--listen"], "--listen"),
        (
            &["--listen", &taken, "--database-url", &url],
            "can't listen on",
        ),
        (
            &["--listen", "192.0.2.1:1", "--database-url", &url],
            "can't listen on 192.0.2.1:1",
        ),
        (&["--log", "loud"], "must be error, warn, info"),
        (&["--log", ""], "--log"),
        (&["--log", "info,"], "must be error, warn, info"),
        (&["--colour"], "--colour"),
        (&["sing"], "sing"),
        (&["serve", "now"], "now"),
        (
            &["--database-url", "postgres://me:secret@db.example/shop"],
            "must begin with `sqlite:`",
        ),
        (&["--database-url", "shop.db"], "must begin with `sqlite:`"),
        (&["--database-url", ""], "must begin with `sqlite:`"),
        (&["--database-url", "sqlite:"], "must name a file"),
        (&["--database-url", "sqlite::memory:"], "must name a file"),
        (
            &["--database-url", "sqlite:a.db?mode=secret"],
            "takes no parameters",
        ),
    ] {
        let sentence = refused(&output(args, &[]).await);
        assert!(sentence.contains(part), "{args:?}: {sentence}");
    }
    for (variable, value, part) in [
        ("GROUP_SERVICE_LISTEN", "x", "--listen"),
        (
            "GROUP_SERVICE_DATABASE_URL",
            "mysql://me:secret@db/x",
            "must begin with `sqlite:`",
        ),
        ("GROUP_SERVICE_LOG", "loud", "--log"),
    ] {
        let sentence = refused(&output(&[], &[(variable, value)]).await);
        assert!(sentence.contains(part), "{variable}: {sentence}");
    }
    assert_eq!(
        std::fs::read_dir(dir.path()).expect("listed").count(),
        0,
        "nothing was created"
    );
}

#[tokio::test]
async fn help_and_version_tell_what_there_is() {
    let help = output(&["--help"], &[("GROUP_SERVICE_DATABASE_URL", "secret")]).await;
    let text = String::from_utf8(help.stdout).expect("text");
    assert!(help.status.success());
    for part in [
        "--listen",
        "GROUP_SERVICE_LISTEN",
        "127.0.0.1:50051",
        "--database-url",
        "GROUP_SERVICE_DATABASE_URL",
        "sqlite:group-service.db",
        "--log",
        "serve",
    ] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    assert!(!text.contains("secret"), "{text}");
    let version = output(&["--version"], &[]).await;
    let expected = format!("group-service {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(version.stdout).expect("text"), expected);
}

#[tokio::test]
async fn a_database_that_cannot_be_ours_is_refused_and_left_as_it_is() {
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
    Process::start(&path("newer")).await.stop().await;
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
async fn a_database_that_cannot_be_written_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("read-only.db");
    Process::start(&path).await.stop().await;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).expect("set");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).expect("set");

    let as_nobody = |file: &Path| {
        // The program may stand where only its owner can reach it: read by root, run by nobody.
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
        return not_run(
            "a_database_that_cannot_be_written_is_refused",
            "there is no setpriv",
        );
    };
    if String::from_utf8_lossy(&output.stderr).contains("setpriv:") {
        return not_run(
            "a_database_that_cannot_be_written_is_refused",
            "it needs root",
        );
    }
    assert!(refused(&output).contains("it can't be written (Permission denied"));
    let output = as_nobody(&dir.path().join("new.db"))
        .output()
        .expect("it starts");
    assert!(refused(&output).contains("it can't be created (Permission denied"));
}

#[tokio::test]
async fn the_start_line_says_where_it_listens_and_where_the_data_is() {
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

    // The next start finds the data, by the variables this time.
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
async fn sigterm_and_sigint_end_it_well_whatever_connections_are_open() {
    let dir = tempfile::tempdir().expect("a directory");
    for signal in ["TERM", "INT"] {
        let server = Process::start(&dir.path().join("signal.db")).await;
        let _idle = server.connect().await;
        // A stream that its caller would hold open for ever.
        let mut health = HealthClient::new(server.connect().await);
        let mut watch = health
            .watch(HealthCheckRequest::default())
            .await
            .expect("watched")
            .into_inner();
        watch.message().await.expect("watched");
        server.signal(signal).await;
        let (status, log) = tokio::time::timeout(Duration::from_secs(10), server.ended())
            .await
            .expect(signal);
        assert_eq!(status.code(), Some(0), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_answers_every_call_that_was_accepted() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("drain.db");
    let server = Process::start(&path).await;
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
    let ended = tokio::time::timeout(Duration::from_secs(10), server.ended()).await;
    let (status, log) = ended.expect("within 10 seconds");
    assert_eq!(status.code(), Some(0), "{log}");
    callers.join_all().await;
    while let Some(title) = answers.recv().await {
        acknowledged.push(title);
    }

    // Every call that was carried out was answered, and the other way round.
    let db = Database::connect(format!("sqlite:{}?mode=ro", path.display()))
        .await
        .expect("opens");
    let mut there = strings(&db, "SELECT title FROM groups").await;
    there.sort_unstable();
    acknowledged.sort_unstable();
    assert_eq!(there, acknowledged);
    // The log has a line for each of them, and for nothing that was cut off.
    assert_eq!(
        log.matches("GroupService/CreateGroup rpc.response.status_code=OK")
            .count(),
        there.len()
    );
    assert_eq!(log.matches("CANCELLED").count(), 0, "{log}");
}

#[tokio::test]
async fn a_path_is_a_path_even_if_it_looks_like_a_uri() {
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
async fn servers_that_start_at_once_on_a_new_file_all_serve() {
    for _ in 0..5 {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("new.db");
        let mut starts = JoinSet::new();
        for _ in 0..4 {
            let path = path.clone();
            starts.spawn(async move { Process::start(&path).await });
        }
        for server in starts.join_all().await {
            server.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_answers_even_those_who_wait_for_a_database_that_others_hold() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("held.db");
    let server = Process::start(&path).await;
    let other = crate::harness::hold(&path).await;
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
    // All of them are waiting when the first of them is refused.
    let first = callers
        .join_next()
        .await
        .expect("a caller")
        .expect("no panic");
    assert_eq!(crate::harness::told(first).reason, "CONFLICT");
    server.signal("TERM").await;
    let ended = tokio::time::timeout(Duration::from_secs(10), server.ended()).await;
    let (status, log) = ended.expect("within 10 seconds");
    assert_eq!(status.code(), Some(0), "{log}");
    for answer in callers.join_all().await {
        let told = crate::harness::told(answer);
        assert!(
            ["CONFLICT", "DATABASE_UNAVAILABLE"].contains(&&*told.reason),
            "{told:?}"
        );
    }
    other.release().await;
    crate::crash::assert_consistent(&path).await;
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

    // Every constraint has a name.
    for table in up
        .iter()
        .filter(|sql| sql.contains("CREATE TABLE") && !sql.contains("seaql_migrations"))
    {
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

/// Every file in a directory, with what is in it.
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
