//! The whole suite once more on each server: this same program, told where the server is.

use std::{fs, process::Stdio, time::Duration};

use tempfile::NamedTempFile;
use tokio::{process::Command, time::timeout};

use crate::harness::{
    SERVER, THROWAWAY, not_run, say,
    servers::{MariaDb, Postgres},
};

/// What has nothing to do with a server of databases, or brings its own.
const ELSEWHERE: [&str; 10] = [
    "abuse::",
    "clusters::",
    "engines::",
    "file::",
    "house::",
    "jwt::",
    "security::",
    "settings::",
    "tls::",
    "tour::",
];
/// Long enough for a busy machine; the suite takes about twelve minutes on two cores beside another one.
const PATIENCE: Duration = Duration::from_secs(2400);

#[tokio::test]
async fn the_suite_on_postgresql() {
    if std::env::var_os(SERVER).is_some() {
        return;
    }
    match Postgres::start(&[]).await {
        Ok(server) => {
            server.accept_plain_passwords().await;
            suite("PostgreSQL", &server.url("postgres")).await;
        }
        Err(why) => not_run("the suite on PostgreSQL", &why),
    }
}

#[tokio::test]
async fn the_suite_on_mariadb() {
    if std::env::var_os(SERVER).is_some() {
        return;
    }
    match MariaDb::start(&[]).await {
        Ok(server) => suite("MariaDB", &server.url("mysql")).await,
        Err(why) => not_run("the suite on MariaDB", &why),
    }
}

async fn suite(engine: &str, url: &str) {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command
        .env(SERVER, url)
        .env(THROWAWAY, "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for module in ELSEWHERE {
        command.args(["--skip", module]);
    }
    // In files, so that what was said until then can be read if it takes too long.
    let [out, err] = [(); 2].map(|()| NamedTempFile::new().expect("a file"));
    let open = |file: &NamedTempFile| Stdio::from(file.reopen().expect("opened"));
    command.stdout(open(&out)).stderr(open(&err));
    let ended = timeout(PATIENCE, async { command.spawn()?.wait().await }).await;
    let [told, complained] = [out, err].map(|file| {
        let text = fs::read(file.path()).expect("read");
        String::from_utf8_lossy(&text).into_owned()
    });
    let succeeded = ended.is_ok_and(|status| status.expect("it runs").success());
    // Names and causes of failures stand at the end. Where it didn't end, the last line is what went on.
    let failures = told.find("\nfailures:\n").unwrap_or_default();
    assert!(
        succeeded,
        "on {engine}, within {PATIENCE:?}: {complained}\n{}",
        &told[failures..]
    );
    // What it had to say: figures, and what could not be run.
    for line in complained.lines().filter(|line| !line.is_empty()) {
        say(&format!("on {engine}: {line}"));
    }
    let result = told.lines().rfind(|line| line.starts_with("test result"));
    say(&format!("on {engine}: {}", result.unwrap_or("no result")));
}
