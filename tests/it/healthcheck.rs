//! The command `group-service healthcheck`, as run by containers and systemd.

use std::{path::Path, process::Output, time::Duration};

use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    harness::{Process, TestServer, binary},
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

/// The one-line error of a failed health check.
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
async fn healthcheck_succeeds_until_server_stops() {
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
    // Another service responds at this address.
    let line = fails(&check(&["--metrics-listen", &address]).await);
    assert!(line.contains("doesn't serve"), "{line}");

    // The check fails as soon as the server starts to stop, while a call is in flight, and after it has ended.
    let mut health = tonic_health::pb::health_client::HealthClient::new(server.connect().await);
    let request = tonic_health::pb::HealthCheckRequest::default();
    let mut reported = health.watch(request).await.expect("watched").into_inner();
    reported.message().await.expect("told").expect("serving");
    server.signal("TERM").await;
    reported
        .message()
        .await
        .expect("told")
        .expect("not serving");
    fails(&check(&["--listen", &address]).await);
    let (status, log) = server.wait_for_exit().await;
    assert!(status.success(), "{log}");
    for setting in ["--listen", "--metrics-listen"] {
        let line = fails(&check(&[setting, &address]).await);
        assert!(line.contains("Connection refused"), "{line}");
    }
}

#[tokio::test]
async fn healthcheck_fails_while_database_is_unavailable() {
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
    let mut reported = health.watch(request).await.expect("watched").into_inner();
    reported.message().await.expect("told").expect("serving");
    // Remove the table that the probe reads.
    let db = sea_orm::Database::connect(url(dir.path()))
        .await
        .expect("opens");
    let gone = "ALTER TABLE seaql_migrations RENAME TO gone";
    sea_orm::ConnectionTrait::execute_unprepared(&db, gone)
        .await
        .expect("renamed");
    // SERVING may be reported more than once: the initial status, and the result of the first probe.
    let ends = async {
        while reported
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
async fn healthcheck_uses_tls_when_server_does() {
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
    // Without TLS settings, the response can't be read.
    let line = fails(&check(&listen).await);
    assert!(line.contains("it hangs up"), "{line}");
    server.stop().await;
}

#[tokio::test]
async fn healthcheck_fails_on_unresponsive_listener() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    for setting in ["--listen", "--metrics-listen"] {
        let line = fails(&check(&[setting, &address]).await);
        assert!(line.contains("it doesn't answer within 3 s"), "{line}");
    }
}

#[tokio::test]
async fn healthcheck_distinguishes_invalid_settings_from_not_serving() {
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
        let mut test_server = TestServer::start().await;
        let address = test_server.metrics.to_string();
        let liveness = async |wanted: ServingStatus| {
            let mut health =
                tonic_health::pb::health_client::HealthClient::new(test_server.channel.clone());
            let request = tonic_health::pb::HealthCheckRequest {
                service: "liveness".to_owned(),
            };
            let reported = health.watch(request).await.expect("watched");
            let mut reported = reported.into_inner();
            let wait = async {
                while reported
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

        // A task that blocks its thread, like one that waits for a lock or a pipe.
        let (release, blocked) = std::sync::mpsc::channel::<()>();
        tokio::spawn(async move { blocked.recv() });
        liveness(ServingStatus::NotServing).await;
        assert_eq!(status("/livez").await, "503");
        while status("/readyz").await != "503" {
            tokio::task::yield_now().await;
        }
        let asked = test_server.address.to_string();
        let line = fails(&check(&["--listen", &asked]).await);
        assert!(line.ends_with("doesn't serve: NOT_SERVING\n"), "{line}");

        drop(release);
        liveness(ServingStatus::Serving).await;
        assert_eq!(status("/livez").await, "200");
        while status("/readyz").await != "200" {
            tokio::task::yield_now().await;
        }
        test_server.stop().await;
    });
}
