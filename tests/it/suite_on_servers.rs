//! Runs the whole suite on each database server: this test binary again, with the server's URL in a variable.

use std::{fs, process::Stdio, time::Duration};

use tempfile::NamedTempFile;
use tokio::{process::Command, time::timeout};

use crate::harness::{
    DISPOSABLE_VARIABLE, SERVER_URL_VARIABLE, print_uncaptured,
    servers::{MariaDb, Postgres},
    skip_test,
};

/// Tests that don't depend on the database server, or start their own.
const EXCLUDED: [&str; 10] = [
    "abuse::",
    "clusters::",
    "suite_on_servers::",
    "sqlite_file::",
    "architecture::",
    "jwt::",
    "security_claims::",
    "settings::",
    "tls::",
    "tour::",
];
/// Long enough for a busy machine: the suite takes about twelve minutes on two cores while another one is running.
const TIMEOUT: Duration = Duration::from_secs(2400);

#[tokio::test]
async fn suite_passes_on_postgresql() {
    if std::env::var_os(SERVER_URL_VARIABLE).is_some() {
        return;
    }
    match Postgres::start(&[]).await {
        Ok(server) => {
            server.accept_plain_passwords().await;
            suite("PostgreSQL", &server.url("postgres")).await;
        }
        Err(why) => skip_test("the suite on PostgreSQL", &why),
    }
}

#[tokio::test]
async fn suite_passes_on_mariadb() {
    if std::env::var_os(SERVER_URL_VARIABLE).is_some() {
        return;
    }
    match MariaDb::start(&[]).await {
        Ok(server) => suite("MariaDB", &server.url("mysql")).await,
        Err(why) => skip_test("the suite on MariaDB", &why),
    }
}

async fn suite(engine: &str, url: &str) {
    let program = std::env::current_exe().expect("this program");
    let mut command = Command::new(program);
    command
        .env(SERVER_URL_VARIABLE, url)
        .env(DISPOSABLE_VARIABLE, "1")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    for module in EXCLUDED {
        command.args(["--skip", module]);
    }
    // To files, so that the output can be read after a timeout.
    let [out, err] = [(); 2].map(|()| NamedTempFile::new().expect("a file"));
    let open = |file: &NamedTempFile| Stdio::from(file.reopen().expect("opened"));
    command.stdout(open(&out)).stderr(open(&err));
    let ended = timeout(TIMEOUT, async { command.spawn()?.wait().await }).await;
    let [reported, complained] = [out, err].map(|file| {
        let text = fs::read(file.path()).expect("read");
        String::from_utf8_lossy(&text).into_owned()
    });
    let succeeded = ended.is_ok_and(|status| status.expect("it runs").success());
    // Failures are listed at the end. After a timeout, the last line names the running test.
    let failures = reported.find("\nfailures:\n").unwrap_or_default();
    assert!(
        succeeded,
        "on {engine}, within {TIMEOUT:?}: {complained}\n{}",
        &reported[failures..]
    );
    // Measurements, and tests that could not run.
    for line in complained.lines().filter(|line| !line.is_empty()) {
        print_uncaptured(&format!("on {engine}: {line}"));
    }
    let result = reported
        .lines()
        .rfind(|line| line.starts_with("test result"));
    print_uncaptured(&format!("on {engine}: {}", result.unwrap_or("no result")));
}
