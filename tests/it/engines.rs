//! The whole suite once more on each server: this same program, told where the server is.

use std::{process::Stdio, time::Duration};

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
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for module in ELSEWHERE {
        command.args(["--skip", module]);
    }
    let output = timeout(PATIENCE, command.output()).await;
    let output = output
        .unwrap_or_else(|_| panic!("the suite on {engine} takes too long"))
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "on {engine}: {told}\n{complained}");
    // What it had to say: figures, and what could not be run.
    for line in complained.lines().filter(|line| !line.is_empty()) {
        say(&format!("on {engine}: {line}"));
    }
    let result = told.lines().rfind(|line| line.starts_with("test result"));
    say(&format!("on {engine}: {}", result.unwrap_or("no result")));
}
