//! What time writes have, and what becomes of what is kept for a time where clocks are wrong.

use std::{path::PathBuf, sync::Arc, time::Duration};

use group_service::{
    pb::{self, change_service_client::ChangeServiceClient},
    store::{Location, Settings, change, request},
};
use prost_types::Timestamp;
use sea_orm::{ConnectionTrait, DbBackend};
use tokio::{process::Command, task::JoinSet};

use crate::{
    crash::strings,
    harness::{Database, Process, World, binary, engine, id, not_run, told},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn micros(time: Option<Timestamp>) -> i64 {
    let time = time.expect("a time");
    time.seconds * 1_000_000 + i64::from(time.nanos) / 1000
}

async fn listed(world: &World) -> Vec<pb::Change> {
    let request = pb::ListChangesRequest {
        page_size: 1000,
        ..Default::default()
    };
    let listed = world.changes.clone().list_changes(request).await;
    listed.expect("listed").into_inner().changes
}

/// The times of the changes of a revision: of all of them there is one.
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
async fn rows_have_the_time_of_the_change_that_wrote_them() {
    let w = World::start().await;
    let role = w.role("first").await.id;
    // Many at once: some share a transaction.
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

/// As if another instance, whose clock is an hour ahead, had created them.
#[tokio::test]
async fn update_times_are_never_before_create_times() {
    let mut w = World::start().await;
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
    // What is filtered by time is found all the same.
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

/// Deleting by the order of times would delete what is young, where times aren't in the order of revisions.
#[tokio::test]
async fn changes_expire_in_the_order_of_revisions() {
    let w = World::start().await;
    for name in ["A", "B", "C", "D"] {
        w.role(name).await;
    }
    let db = w.database.connect().await;
    // The first two are two days old, the third was written an hour "later" than the fourth.
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
    let told = told(w.changes.clone().list_changes(request).await);
    assert_eq!(told.metadata["oldest_revision"], "3");
}

#[tokio::test]
async fn answers_are_kept_for_24_hours() {
    let w = World::start().await;
    let request = |name: &str| pb::CreateRoleRequest {
        name: name.into(),
        request_id: id(),
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
    while request::forget(&w.db).await.expect("forgotten") {}
    let kept = strings(&db, "SELECT 'kept' FROM requests").await;
    assert_eq!(kept, ["kept"]);
    let again = roles.create_role(young).await.expect("answered again");
    assert_eq!(again.into_inner().revision, 2);
}

/// A program whose clock is ahead of this machine's by as much as a file says; none if that can't be done here.
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
            not_run(test, "libfaketime isn't installed (Debian: faketime)");
            return None;
        };
        let dir = tempfile::tempdir().expect("a directory");
        Some(Self { library, dir })
    }

    /// From now on the program's wall clock is ahead by so many seconds. Its monotonic clock goes on as it did.
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
async fn an_instance_whose_clock_jumps_ahead_says_so_and_deletes_nothing() {
    let test = "an_instance_whose_clock_jumps_ahead_says_so_and_deletes_nothing";
    let Some(clock) = OtherClock::find(test) else {
        return;
    };
    clock.set(0);
    let database = Database::create().await;
    let server = Process::spawn(clock.command(&database)).await;
    let (_, mut roles, _) = server.clients().await;
    let request = pb::CreateRoleRequest {
        name: "A".into(),
        request_id: id(),
        ..Default::default()
    };
    let first = roles.create_role(request.clone()).await.expect("created");
    let first = first.into_inner();
    clock.set(86_500);
    server.says("nothing expires").await;
    let told = crate::metrics::told(&crate::metrics::address(&server)).await;
    let difference = told["group_service_clock_difference_seconds"];
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
    // When the clock is right again, what is old enough expires again.
    clock.set(0);
    server.says("expires again").await;
    let again = roles.create_role(request).await.expect("answered again");
    assert_eq!(again.into_inner(), first);
    server.stop().await;
}

/// On SQLite there is no other clock than the instance's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_have_the_time_of_the_database_whatever_the_clock_of_an_instance() {
    let test = "writes_have_the_time_of_the_database_whatever_the_clock_of_an_instance";
    if engine() == DbBackend::Sqlite {
        return;
    }
    let Some(clock) = OtherClock::find(test) else {
        return;
    };
    let database = Arc::new(Database::create().await);
    let settings = Settings::new(Location::parse(database.url()).expect("a URL"));
    let right = World::with(database.clone(), settings).await;
    let mut last = micros(right.role("first").await.create_time);
    for (number, seconds) in [90_000, -90_000].into_iter().enumerate() {
        clock.set(seconds);
        let wrong = Process::spawn(clock.command(&database)).await;
        let (_, mut roles, _) = wrong.clients().await;
        let request = pb::CreateRoleRequest {
            name: format!("A {number}"),
            request_id: id(),
            ..Default::default()
        };
        let created = roles.create_role(request.clone()).await.expect("created");
        let created = created.into_inner();
        let written = micros(created.role.clone().expect("a role").create_time);
        let hour = 3_600_000_000;
        assert!((last - hour..last + hour).contains(&written), "{seconds}");
        last = written;
        // What one has kept, all others know, whatever their clocks.
        let again = right.roles.clone().create_role(request.clone()).await;
        assert_eq!(again.expect("answered again").into_inner(), created);
        let mut other = request;
        other.request_id = id();
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
