//! An unavailable database or a full disk: calls fail with a retryable error, nothing is written partially, and the
//! service recovers by itself.

use std::{fs::File, io::Write, path::Path, process::Command};

use group_service::pb;
use tonic::Code;
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
};

use crate::harness::{
    Database, Process, TestServer, expect_error,
    raw::{self, methods, path, valid_request},
    skip_test,
};
use crate::settings::{output, refused};

#[tokio::test]
async fn every_rpc_reports_database_unavailable() {
    let w = TestServer::start().await;
    w.db.clone().close().await;
    for method in methods() {
        let answer = raw::call(&w.channel, &path(&method), valid_request(&method)).await;
        let reported = expect_error(answer);
        assert_eq!(
            (reported.code, &*reported.reason),
            (Code::Unavailable, "DATABASE_UNAVAILABLE"),
            "{method:?}"
        );
        assert!(reported.retry, "{method:?} says when to try again");
    }
}

#[tokio::test]
async fn service_health_follows_database_health() {
    let mut w = TestServer::start().await;
    let mut health = HealthClient::new(w.channel.clone());
    let services = [
        "",
        "groups.v1.GroupService",
        "groups.v1.RoleService",
        "groups.v1.UserService",
    ];
    for service in services {
        assert_eq!(
            until(&mut health, service, ServingStatus::Serving).await,
            ServingStatus::Serving
        );
    }
    let request = HealthCheckRequest {
        service: "groups.v1.Nothing".into(),
    };
    let status = health.check(request).await.expect_err("unknown");
    assert_eq!(status.code(), Code::NotFound);

    w.db.clone().close().await;
    for service in services {
        until(&mut health, service, ServingStatus::NotServing).await;
    }
    w.stop().await;
}

#[tokio::test]
async fn full_disk_is_a_recoverable_outage() {
    let Some(disk) = SmallDisk::mount() else {
        skip_test("full_disk_is_a_recoverable_outage", "can't mount a tmpfs");
        return;
    };
    let database = Database::at(&disk.path().join("small.db"));
    let server = Process::start(database.url()).await;
    let channel = server.connect().await;
    let (_, mut roles, _) = server.clients().await;
    let mut health = HealthClient::new(channel);
    until(&mut health, "", ServingStatus::Serving).await;

    let mut acknowledged = Vec::new();
    for round in 0..3 {
        let filler = disk.path().join("filler");
        fill(&filler);
        // The WAL file has some free space; then it must grow.
        let refused = loop {
            let name = format!("role {round} {}", acknowledged.len());
            let description = "x".repeat(1000);
            match roles
                .create_role(pb::CreateRoleRequest {
                    name,
                    description,
                    ..Default::default()
                })
                .await
            {
                Ok(role) => acknowledged.push(role.into_inner().role.expect("a role")),
                refused => break expect_error(refused),
            }
            assert!(acknowledged.len() < 10_000, "the disk is never full");
        };
        assert_eq!(
            (refused.code, &*refused.reason),
            (Code::Unavailable, "DATABASE_UNAVAILABLE")
        );
        assert!(refused.retry);
        until(
            &mut health,
            "groups.v1.RoleService",
            ServingStatus::NotServing,
        )
        .await;
        // Reads still work.
        let list = pb::ListRolesRequest {
            order_by: "create_time".into(),
            page_size: 1000,
            ..Default::default()
        };
        let there = roles
            .list_roles(list)
            .await
            .expect("listed")
            .into_inner()
            .roles;
        assert_eq!(there, acknowledged);

        std::fs::remove_file(filler).expect("the filler goes");
        until(&mut health, "groups.v1.RoleService", ServingStatus::Serving).await;
        for number in 0..20 {
            // Several writes, to check that transactions work again.
            let request = pb::CreateRoleRequest {
                name: format!("after {round} {number}"),
                ..Default::default()
            };
            let role = roles
                .create_role(request)
                .await
                .expect("there is room again")
                .into_inner()
                .role;
            acknowledged.push(role.expect("a role"));
        }
    }
    crate::crash::assert_consistent(&database).await;

    // The cause is logged once per call, and not sent to the caller.
    let log = server.stop().await;
    let causes = log
        .lines()
        .filter(|line| line.contains("database or disk is full"))
        .count();
    assert_eq!(causes, 3, "{log}");
    assert_eq!(
        log.matches("database unavailable: not serving").count(),
        3,
        "{log}"
    );
    assert_eq!(log.matches("database available again").count(), 3, "{log}");

    let server = Process::start(database.url()).await;
    let (_, mut roles, _) = server.clients().await;
    let list = pb::ListRolesRequest {
        order_by: "create_time".into(),
        page_size: 1000,
        ..Default::default()
    };
    assert_eq!(
        roles
            .list_roles(list)
            .await
            .expect("listed")
            .into_inner()
            .roles,
        acknowledged
    );
    server.stop().await;
}

#[tokio::test]
async fn startup_on_full_disk_reports_cause_and_remedy() {
    let test = "startup_on_full_disk_reports_cause_and_remedy";
    let Some(disk) = SmallDisk::mount() else {
        return skip_test(test, "can't mount a tmpfs");
    };
    let url = |name: &str| format!("sqlite:{}", disk.path().join(name).display());
    Process::start(&url("old.db")).await.stop().await;
    let filler = disk.path().join("filler");
    fill(&filler);
    for name in ["old.db", "new.db"] {
        for command in [&["--listen", "127.0.0.1:0"][..], &["token", "list"]] {
            if command[0] == "token" && name == "new.db" {
                continue;
            }
            let url = url(name);
            let args = [command, &["--database-url", &url]].concat();
            let line = refused(&output(&args, &[]).await);
            let advice = format!("the disk is full: make room in {}", disk.path().display());
            assert!(line.contains(&advice), "{name}: {line}");
        }
    }
    std::fs::remove_file(filler).expect("the filler goes");
    for name in ["old.db", "new.db"] {
        Process::start(&url(name)).await.stop().await;
    }
}

/// Waits until the service reports this health status.
pub(crate) async fn until(
    health: &mut HealthClient<tonic::transport::Channel>,
    service: &str,
    wanted: ServingStatus,
) -> ServingStatus {
    let request = HealthCheckRequest {
        service: service.into(),
    };
    let mut changes = health.watch(request).await.expect("watched").into_inner();
    let wait = async {
        loop {
            let change = changes.message().await.expect("watched").expect("goes on");
            if change.status == wanted as i32 {
                return wanted;
            }
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), wait)
        .await
        .unwrap_or_else(|_| panic!("{service:?} is never {wanted:?}"))
}

/// Fills the file system.
fn fill(path: &Path) {
    let mut file = File::create(path).expect("a filler");
    for size in [4096, 1] {
        while file.write_all(&vec![0; size]).is_ok() {}
    }
}

/// A file system of 16 MiB, unmounted on drop. The WAL alone grows to 4 MiB before it restarts from the beginning.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let mount = ["-t", "tmpfs", "-o", "size=16m", "group-service-test"];
        let mounted = Command::new("mount").args(mount).arg(dir.path()).output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then_some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazy unmount: after a failed test, a server may still have files open.
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}
