//! `group-service healthcheck`, as containers and systemd run it.

use std::{path::Path, process::Output, time::Duration};

use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    harness::{Process, World, binary},
    metrics,
    settings::{output, refused},
    tls,
};

async fn check(args: &[&str]) -> Output {
    output(&[&["healthcheck"], args].concat(), &[]).await
}

fn serves(output: &Output) -> String {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{complaint}");
    assert_eq!(complaint, "");
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// What is said of a server that doesn't serve, in one line.
fn fails(output: &Output) -> String {
    let complaint = String::from_utf8(output.stderr.clone()).expect("text");
    assert_eq!(output.status.code(), Some(1), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(output.stdout.is_empty());
    complaint
}

fn url(dir: &Path) -> String {
    format!("sqlite:{}", dir.join("health.db").display())
}

#[tokio::test]
async fn a_server_that_serves_is_healthy_until_it_is_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = binary();
    command
        .args([
            "--listen",
            "127.0.0.1:0",
            "--database-url",
            &url(dir.path()),
        ])
        .args(["--metrics-listen", "127.0.0.1:0"]);
    let server = Process::spawn(command).await;
    let address = server.address.to_string();
    let (_, metrics) = server.start_line.split_once("http://").expect("metrics");
    let (metrics, _) = metrics.split_once('/').expect("an address");
    let metrics = metrics.to_owned();
    let everywhere = format!("0.0.0.0:{}", server.address.port());
    for (args, asked) in [
        (&["--listen", &address][..], &address),
        (&["--listen", &everywhere, "--insecure"], &address),
        (&["--metrics-listen", &metrics], &metrics),
    ] {
        let line = serves(&check(args).await);
        assert_eq!(line, format!("the server at {asked} serves\n"));
    }
    // Where something else answers.
    let line = fails(&check(&["--metrics-listen", &address]).await);
    assert!(line.contains("doesn't serve"), "{line}");

    // As soon as it is to stop, with a call still under way, and when it is gone.
    let mut health = tonic_health::pb::health_client::HealthClient::new(server.connect().await);
    let request = tonic_health::pb::HealthCheckRequest::default();
    let mut told = health.watch(request).await.expect("watched").into_inner();
    told.message().await.expect("told").expect("serving");
    server.signal("TERM").await;
    told.message().await.expect("told").expect("not serving");
    fails(&check(&["--listen", &address]).await);
    let (status, log) = server.ended().await;
    assert!(status.success(), "{log}");
    for setting in ["--listen", "--metrics-listen"] {
        let line = fails(&check(&[setting, &address]).await);
        assert!(line.contains("Connection refused"), "{line}");
    }
}

#[tokio::test]
async fn a_server_whose_database_is_away_is_not_healthy() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = binary();
    command
        .args([
            "--listen",
            "127.0.0.1:0",
            "--database-url",
            &url(dir.path()),
        ])
        .args(["--metrics-listen", "127.0.0.1:0"]);
    let server = Process::spawn(command).await;
    let address = server.address.to_string();
    let (_, metrics) = server.start_line.split_once("http://").expect("metrics");
    let (metrics, _) = metrics.split_once('/').expect("an address");
    let mut health = tonic_health::pb::health_client::HealthClient::new(server.connect().await);
    let request = tonic_health::pb::HealthCheckRequest::default();
    let mut told = health.watch(request).await.expect("watched").into_inner();
    told.message().await.expect("told").expect("serving");
    // What the probe reads isn't there any more.
    let db = sea_orm::Database::connect(url(dir.path()))
        .await
        .expect("opens");
    let gone = "ALTER TABLE seaql_migrations RENAME TO gone";
    sea_orm::ConnectionTrait::execute_unprepared(&db, gone)
        .await
        .expect("renamed");
    // That it serves may be told again: what there was before the first probe, and what that has found.
    let ends = async {
        while told
            .message()
            .await
            .expect("told")
            .expect("a status")
            .status()
            != ServingStatus::NotServing
        {}
    };
    let ends = tokio::time::timeout(Duration::from_secs(30), ends).await;
    ends.expect("it is told that it doesn't serve");
    let line = fails(&check(&["--listen", &address]).await);
    assert!(line.ends_with("doesn't serve: NOT_SERVING\n"), "{line}");
    let line = fails(&check(&["--metrics-listen", metrics]).await);
    assert!(line.ends_with("doesn't serve: it is not ready\n"), "{line}");
    server.stop().await;
}

#[tokio::test]
async fn a_server_with_tls_is_asked_over_tls() {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = tls::authority();
    tls::put(dir.path(), &tls::server(&authority), &authority);
    let server = tls::start(dir.path()).await;
    let address = server.address.to_string();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (certificate, key) = (file("server.pem"), file("key.pem"));
    let tls = ["--tls-certificate", &*certificate, "--tls-key", &key];
    let listen = ["--listen", &*address];
    serves(&check(&[&listen[..], &tls].concat()).await);
    // Without, it isn't understood.
    let line = fails(&check(&listen).await);
    assert!(line.contains("it hangs up"), "{line}");
    server.stop().await;
}

#[tokio::test]
async fn who_takes_the_connection_and_says_nothing_is_not_healthy() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    for setting in ["--listen", "--metrics-listen"] {
        let line = fails(&check(&[setting, &address]).await);
        assert!(line.contains("it doesn't answer within 3 s"), "{line}");
    }
}

#[tokio::test]
async fn wrong_settings_are_told_apart_from_a_server_that_does_not_serve() {
    for (args, part) in [
        (&["--listen", "nonsense"][..], "must be an IP address"),
        (&["--listen", "127.0.0.1:0"], "which port it has taken"),
        (&["--listen", "0.0.0.0:1"], "beyond loopback"),
        (&["--tls-certificate", "x.pem"], "--tls-key"),
        (&["--database-url", "oracle:"], "must begin with"),
    ] {
        let line = refused(&check(args).await);
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn liveness_and_readiness_fail_while_a_worker_thread_is_stuck() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut world = World::start().await;
        let address = world.metrics.to_string();
        let liveness = async |wanted: ServingStatus| {
            let mut health =
                tonic_health::pb::health_client::HealthClient::new(world.channel.clone());
            let request = tonic_health::pb::HealthCheckRequest {
                service: "liveness".to_owned(),
            };
            let told = health.watch(request).await.expect("watched");
            let mut told = told.into_inner();
            let wait = async {
                while told
                    .message()
                    .await
                    .expect("told")
                    .expect("a status")
                    .status()
                    != wanted
                {}
            };
            let wait = tokio::time::timeout(Duration::from_secs(60), wait).await;
            wait.unwrap_or_else(|_| panic!("never {wanted:?}"));
        };
        let status =
            async |path: &str| metrics::ask(&address, path, "*/*").await.0[9..12].to_owned();
        liveness(ServingStatus::Serving).await;
        assert_eq!(status("/livez").await, "200");

        // A call that blocks its thread, as one that waits for a lock or a pipe would.
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        tokio::spawn(async move { blocked.recv() });
        liveness(ServingStatus::NotServing).await;
        assert_eq!(status("/livez").await, "503");
        while status("/readyz").await != "503" {
            tokio::task::yield_now().await;
        }
        let asked = world.address.to_string();
        let line = fails(&check(&["--listen", &asked]).await);
        assert!(line.ends_with("doesn't serve: NOT_SERVING\n"), "{line}");

        drop(release);
        liveness(ServingStatus::Serving).await;
        assert_eq!(status("/livez").await, "200");
        while status("/readyz").await != "200" {
            tokio::task::yield_now().await;
        }
        world.stop().await;
    });
}
