//! Rolling upgrades: data in formats of a newer version is passed on unchanged, and doesn't make responses wrong.

use std::time::Duration;

use group_service::pb::{self, ChangeKind, value::Value};
use sea_orm::{ConnectionTrait, DbBackend, TransactionTrait};
use tokio::time::timeout;

use crate::{
    group::create,
    harness::{TestServer, engine},
};

/// A kind of change that no version uses.
const FUTURE: i32 = 30_000;

/// Writes as a newer version with other kinds of changes would: `set` updates a group, and a change of `kind` with
/// these values is recorded.
async fn write_as_newer(w: &TestServer, revision: i64, set: &str, kind: i32, values: &str) {
    let db = w.database.connect().await;
    let quote = if engine() == DbBackend::MySql {
        "`"
    } else {
        "\""
    };
    let write = db.begin().await.expect("begins");
    for sql in [
        format!("UPDATE directory SET revision = {revision}"),
        format!("UPDATE \"groups\" SET {set}"),
        format!(
            "INSERT INTO changes (revision, ordinal, kind, time, actor, group_id, group_title, \"before\", \"after\")
             SELECT {revision}, 0, {kind}, latest_time, 'newer', g.id, g.title, {values}
               FROM directory, \"groups\" g"
        ),
    ] {
        let sql = sql.replace('"', quote);
        write.execute_unprepared(&sql).await.expect("written");
    }
    write.commit().await.expect("committed");
    db.close().await.expect("closes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_change_kinds_are_passed_through_safely() {
    let mut w = TestServer::start().await;
    let role = w.role("A").await.id;
    let group = w.groups.create_group(create("Ops", &[&role])).await;
    let group = group
        .expect("created")
        .into_inner()
        .group
        .expect("a group")
        .id;
    // The group is cached from now on.
    let before = w.get_group(&group).await;
    assert_eq!(w.get_group(&group).await, before);
    let mut feed = w
        .changes
        .watch_changes(pb::WatchChangesRequest {
            from_revision: 1,
            ..Default::default()
        })
        .await
        .expect("followed")
        .into_inner();

    write_as_newer(&w, 3, "title = 'Devs'", FUTURE, "'red', NULL").await;
    // A known kind with a value in another format.
    let removed = ChangeKind::RuleRemoved as i32;
    write_as_newer(&w, 4, "version = 9", removed, "NULL, 'a b'").await;

    let request = pb::GetGroupRequest {
        group_id: group.clone(),
        min_revision: 4,
    };
    let after = w.groups.get_group(request).await.expect("got");
    let after = after.into_inner().group.expect("a group");
    assert_eq!((&*after.title, &*after.etag), ("Devs", "9"));
    let listed = w
        .changes
        .list_changes(pb::ListChangesRequest {
            min_revision: 4,
            from_revision: 3,
            ..Default::default()
        })
        .await
        .expect("listed")
        .into_inner()
        .changes;
    let reported: Vec<_> = listed
        .iter()
        .map(|change| {
            let values = [&change.before, &change.after].map(|value| value.clone()?.value);
            (change.revision, change.kind, &*change.actor, values)
        })
        .collect();
    let raw = |text: &str| Some(Value::Raw(text.into()));
    assert_eq!(
        reported,
        [
            (3, FUTURE, "newer", [raw("red"), None]),
            (4, removed, "newer", [None, raw("a b")])
        ]
    );
    assert!(listed.iter().all(|change| {
        let subject = change.group.as_ref().expect("a group");
        (&*subject.id, &*subject.name) == (&*group, "Devs")
    }));
    let mut followed = Vec::new();
    while followed
        .last()
        .is_none_or(|change: &pb::Change| change.revision < 4)
    {
        let batch = timeout(Duration::from_secs(20), feed.message()).await;
        let batch = batch.expect("in time").expect("told").expect("goes on");
        followed.extend(batch.changes.into_iter().filter(|c| c.revision > 2));
    }
    assert_eq!(followed, listed);

    // The cache has caught up, and serves reads.
    let caught_up = async {
        while w.db.cache_counts().lag > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(Duration::from_secs(20), caught_up)
        .await
        .expect("memory catches up");
    let answered = w.db.cache_counts().hits;
    for _ in 0..2 {
        assert_eq!(w.get_group(&group).await.title, "Devs");
    }
    assert!(w.db.cache_counts().hits > answered);
    // Writes of this version follow the newer version's.
    let next = w.groups.delete_group(crate::group::delete(&group)).await;
    assert_eq!(next.expect("deleted").into_inner().revision, 5);
}
