//! Clock skew: the times of writes, and expiry while clocks are wrong.

use std::{path::PathBuf, sync::Arc, time::Duration};

use group_service::{
    pb::{self, change_service_client::ChangeServiceClient},
    store::{Location, Settings, change, idempotency},
};
use prost_types::Timestamp;
use sea_orm::{ConnectionTrait, DbBackend};
use tokio::{process::Command, task::JoinSet};

use crate::{
    crash::strings,
    harness::{Database, Process, TestServer, binary, engine, expect_error, skip_test, unknown_id},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn micros(time: Option<Timestamp>) -> i64 {
    let time = time.expect("a time");
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1000
}

async fn listed(test_server: &TestServer) -> Vec<pb::Change> {
    let request = pb::ListChangesRequest {
        page_size: 1000,
        ..Default::default()
    };
    let listed = test_server.changes.clone().list_changes(request).await;
    listed.expect("listed").into_inner().changes
}

/// The time of the changes of a revision; all of them must have the same one.
fn time_of(changes: &[pb::Change], revision: i64) -> i64 {
    let mut times: Vec<_> = changes
        .iter()
        .filter(|change| change.revision == revision)
        .map(|change| micros(change.time))
        .collect();
    times.dedup();
    assert_eq!(times.len(), 1, "one time for revision {revision}");
    times[0]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_times_equal_change_times() {
    let w = TestServer::start().await;
    let role = w.role("first").await.id;
    // Concurrent writes, some of which share a transaction.
    let mut writers = JoinSet::new();
    for number in 0..20 {
        let (mut roles, mut groups, mut users) =
            (w.roles.clone(), w.groups.clone(), w.users.clone());
        let role = role.clone();
        writers.spawn(async move {
            let request = pb::CreateRoleRequest {
                name: format!("role {number}"),
                ..Default::default()
            };
            let created = roles.create_role(request).await.expect("created");
            let created = created.into_inner();
            let other = created.role.expect("a role");
            let mut rows = vec![(created.revision, other.create_time, other.update_time)];
            let request = pb::UpdateRoleRequest {
                role_id: other.id,
                description: Some("changed".into()),
                ..Default::default()
            };
            let updated = roles.update_role(request).await.expect("updated");
            let updated = updated.into_inner();
            rows.push((
                updated.revision,
                updated.role.expect("a role").update_time,
                None,
            ));
            let request = crate::group::create(&format!("group {number}"), &[&role]);
            let created = groups.create_group(request).await.expect("created");
            let created = created.into_inner();
            let group = created.group.expect("a group");
            rows.push((created.revision, group.create_time, group.update_time));
            let request = pb::UpdateGroupRequest {
                title: Some(format!("renamed {number}")),
                ..crate::group::update(&group.id)
            };
            let updated = groups.update_group(request).await.expect("updated");
            let updated = updated.into_inner();
            rows.push((
                updated.revision,
                updated.group.expect("a group").update_time,
                None,
            ));
            let request = pb::CreateUserRequest {
                username: format!("user {number}"),
                ..Default::default()
            };
            let created = users.create_user(request).await.expect("created");
            let created = created.into_inner();
            let user = created.user.expect("a user");
            rows.push((created.revision, user.create_time, user.update_time));
            let request = pb::UpdateUserRequest {
                user_id: user.id,
                first_name: Some("Ann".into()),
                ..Default::default()
            };
            let updated = users.update_user(request).await.expect("updated");
            let updated = updated.into_inner();
            rows.push((
                updated.revision,
                updated.user.expect("a user").update_time,
                None,
            ));
            rows
        });
    }
    let rows = writers.join_all().await.concat();
    let changes = listed(&w).await;
    for (revision, written, also) in rows {
        let time = time_of(&changes, revision);
        assert_eq!(micros(written), time, "revision {revision}");
        assert_eq!(also.map_or(time, |also| micros(Some(also))), time);
    }
}

/// The rows look as if another instance, with a clock an hour ahead, had created them.
#[tokio::test]
async fn update_time_is_never_before_create_time() {
    let mut w = TestServer::start().await;
    let role = w.role("A").await.id;
    let group = w.group("Ops", &[&role]).await.id;
    let user = w.user("ann").await.id;
    let db = w.database.connect().await;
    for table in ["roles", "\"groups\"", "users"] {
        let sql = format!(
            "UPDATE {table} SET created_at = created_at + 3600000000, updated_at = updated_at + 3600000000"
        );
        let quote = if engine() == DbBackend::MySql {
            "`"
        } else {
            "\""
        };
        db.execute_unprepared(&sql.replace('"', quote))
            .await
            .expect("moved");
    }
    db.execute_unprepared("UPDATE directory SET latest_time = latest_time + 3600000000")
        .await
        .expect("moved");
    let request = pb::UpdateRoleRequest {
        role_id: role.clone(),
        name: Some("B".into()),
        ..Default::default()
    };
    let updated = w.roles.update_role(request).await.expect("updated");
    let updated = updated.into_inner();
    let of_role = updated.role.expect("a role");
    let mut written = vec![(updated.revision, of_role.create_time, of_role.update_time)];
    let request = pb::UpdateGroupRequest {
        title: Some("Devs".into()),
        ..crate::group::update(&group)
    };
    let updated = w.groups.update_group(request).await.expect("updated");
    let updated = updated.into_inner();
    let of_group = updated.group.expect("a group");
    written.push((updated.revision, of_group.create_time, of_group.update_time));
    let request = pb::UpdateUserRequest {
        user_id: user.clone(),
        first_name: Some("Ann".into()),
        ..Default::default()
    };
    let updated = w.users.update_user(request).await.expect("updated");
    let updated = updated.into_inner();
    let of_user = updated.user.expect("a user");
    written.push((updated.revision, of_user.create_time, of_user.update_time));
    let deleted = w.groups.delete_group(crate::group::delete(&group)).await;
    let deleted = deleted.expect("deleted").into_inner().revision;
    let changes = listed(&w).await;
    for (revision, created, updated) in written {
        assert!(micros(updated) >= micros(created), "revision {revision}");
        assert_eq!(micros(updated), time_of(&changes, revision));
    }
    assert!(time_of(&changes, deleted) >= micros(of_group.update_time));
    // Filtering by time still finds all changes.
    let filter = pb::ChangeFilter {
        start_time: of_role.update_time,
        ..Default::default()
    };
    let request = pb::ListChangesRequest {
        filter: Some(filter),
        ..Default::default()
    };
    let found = w.changes.list_changes(request).await.expect("listed");
    let found: Vec<_> = found.into_inner().changes;
    let wanted = micros(of_role.update_time);
    assert!(found.iter().all(|change| micros(change.time) >= wanted));
    let all = changes
        .iter()
        .filter(|change| micros(change.time) >= wanted);
    assert_eq!(found.len(), all.count());
}

/// Where times aren't in revision order, expiring in order of time would delete recent changes.
#[tokio::test]
async fn changes_expire_in_revision_order() {
    let w = TestServer::start().await;
    for name in ["A", "B", "C", "D"] {
        w.role(name).await;
    }
    let db = w.database.connect().await;
    // The first two changes are two days old; the third has a time one hour after the fourth.
    for sql in [
        "UPDATE changes SET time = time - 172800000000 WHERE revision <= 2",
        "UPDATE changes SET time = time + 3600000000 WHERE revision = 3",
    ] {
        db.execute_unprepared(sql).await.expect(sql);
    }
    while change::expire(&w.db, DAY).await.expect("expired") {}
    let left: Vec<_> = listed(&w).await.iter().map(|c| c.revision).collect();
    assert_eq!(left, [3, 4]);
    let request = pb::ListChangesRequest {
        from_revision: 2,
        ..Default::default()
    };
    let reported = expect_error(w.changes.clone().list_changes(request).await);
    assert_eq!(reported.metadata["oldest_revision"], "3");
}

#[tokio::test]
async fn idempotent_responses_are_kept_for_24_hours() {
    let w = TestServer::start().await;
    let request = |name: &str| pb::CreateRoleRequest {
        name: name.into(),
        request_id: unknown_id(),
        ..Default::default()
    };
    let (old, young) = (request("old"), request("young"));
    let mut roles = w.roles.clone();
    roles.create_role(old).await.expect("created");
    let db = w.database.connect().await;
    db.execute_unprepared("UPDATE requests SET created_at = created_at - 86401000000")
        .await
        .expect("older than a day");
    roles.create_role(young.clone()).await.expect("created");
    db.execute_unprepared("UPDATE requests SET created_at = created_at - 86000000000")
        .await
        .expect("younger than a day");
    while idempotency::delete_expired(&w.db).await.expect("forgotten") {}
    let kept = strings(&db, "SELECT 'kept' FROM requests").await;
    assert_eq!(kept, ["kept"]);
    let again = roles.create_role(young).await.expect("answered again");
    assert_eq!(again.into_inner().revision, 2);
}

/// Runs the program with a wall clock that is ahead of this machine's by the offset in a file (libfaketime).
struct OtherClock {
    library: PathBuf,
    dir: tempfile::TempDir,
}

impl OtherClock {
    fn find(test: &str) -> Option<Self> {
        let places = std::fs::read_dir("/usr/lib")
            .into_iter()
            .flatten()
            .flatten();
        let library = places
            .map(|place| place.path().join("faketime/libfaketimeMT.so.1"))
            .find(|library| library.is_file());
        let Some(library) = library else {
            skip_test(test, "libfaketime isn't installed (Debian: faketime)");
            return None;
        };
        let dir = tempfile::tempdir().expect("a directory");
        Some(Self { library, dir })
    }

    /// Sets the offset of the program's wall clock, in seconds. Its monotonic clock is not affected.
    fn set(&self, seconds: i64) {
        let (new, file) = (self.dir.path().join("new"), self.dir.path().join("clock"));
        std::fs::write(&new, format!("{seconds:+}s\n")).expect("written");
        std::fs::rename(new, file).expect("renamed");
    }

    fn command(&self, database: &Database) -> Command {
        let mut command = binary();
        command
            .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
            .args(["--log", "info", "--changes-retention", "12h"])
            .args(["--database-url", database.url()])
            .env("LD_PRELOAD", &self.library)
            .env("FAKETIME_TIMESTAMP_FILE", self.dir.path().join("clock"))
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1");
        command
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clock_skew_is_logged_and_stops_expiry() {
    let test = "clock_skew_is_logged_and_stops_expiry";
    let Some(clock) = OtherClock::find(test) else {
        return;
    };
    clock.set(0);
    let database = Database::create().await;
    let server = Process::spawn(clock.command(&database)).await;
    let (_, mut roles, _) = server.clients().await;
    let request = pb::CreateRoleRequest {
        name: "A".into(),
        request_id: unknown_id(),
        ..Default::default()
    };
    let first = roles.create_role(request.clone()).await.expect("created");
    let first = first.into_inner();
    clock.set(86_500);
    server.wait_for_log("expiry paused").await;
    let reported = crate::metrics::samples(&crate::metrics::address(&server)).await;
    let difference = reported["group_service_clock_skew_seconds"];
    assert!((86_000.0..87_000.0).contains(&difference), "{difference}");
    let again = roles.create_role(request.clone()).await;
    assert_eq!(again.expect("answered again").into_inner(), first);
    let mut changes = ChangeServiceClient::new(server.connect().await);
    let request_changes = pb::ListChangesRequest {
        from_revision: 1,
        ..Default::default()
    };
    let listed = changes.list_changes(request_changes).await;
    assert_eq!(listed.expect("kept").into_inner().changes.len(), 1);
    // Expiry resumes when the clock is right again.
    clock.set(0);
    server.wait_for_log("expiry resumed").await;
    let again = roles.create_role(request).await.expect("answered again");
    assert_eq!(again.into_inner(), first);
    server.stop().await;
}

/// Not on SQLite, which has no clock but the instance's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_times_come_from_the_database_clock() {
    let test = "write_times_come_from_the_database_clock";
    if engine() == DbBackend::Sqlite {
        return;
    }
    let Some(clock) = OtherClock::find(test) else {
        return;
    };
    let database = Arc::new(Database::create().await);
    let settings = Settings::new(Location::parse(database.url()).expect("a URL"));
    let right = TestServer::with(database.clone(), settings).await;
    let mut last = micros(right.role("first").await.create_time);
    for (number, seconds) in [90_000, -90_000].into_iter().enumerate() {
        clock.set(seconds);
        let wrong = Process::spawn(clock.command(&database)).await;
        let (_, mut roles, _) = wrong.clients().await;
        let request = pb::CreateRoleRequest {
            name: format!("A {number}"),
            request_id: unknown_id(),
            ..Default::default()
        };
        let created = roles.create_role(request.clone()).await.expect("created");
        let created = created.into_inner();
        let written = micros(created.role.clone().expect("a role").create_time);
        let hour = 3_600_000_000;
        assert!((last - hour..last + hour).contains(&written), "{seconds}");
        last = written;
        // Stored responses are valid on all instances, whatever their clocks.
        let again = right.roles.clone().create_role(request.clone()).await;
        assert_eq!(again.expect("answered again").into_inner(), created);
        let mut other = request;
        other.request_id = unknown_id();
        other.name = format!("B {number}");
        let mut of_right = right.roles.clone();
        let created = of_right.create_role(other.clone()).await.expect("created");
        let created = created.into_inner();
        let again = roles.create_role(other).await.expect("answered again");
        assert_eq!(again.into_inner(), created);
        wrong.stop().await;
    }
    crate::crash::assert_consistent(&database).await;
}
