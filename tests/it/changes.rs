//! `ChangeService`: listing and watching changes.

use group_service::pb::{self, ChangeKind, value::Value};
use sea_orm::ConnectionTrait;

use crate::{
    access::allow,
    contract::{Failure, Success},
    group::{delete, update},
    harness::{Database, Process, TestServer, expect_error, unknown_id},
};

pub(crate) fn successes() -> Vec<Success> {
    vec![
        Success {
            rpc: "ListChanges",
            run: |w| {
                Box::pin(async move {
                    let group = stage(w).await;
                    let trace = w.traced();
                    let list = w
                        .changes
                        .list_changes(pb::ListChangesRequest::default())
                        .await;
                    let list = list.expect("listed").into_inner();
                    w.trace(None);
                    let reported: Vec<_> = list.changes.iter().map(line).collect();
                    assert_eq!(
                        reported,
                        [
                            "1.0 RoleCreated role=Editor - > Editor",
                            "1.1 RoleDescribed role=Editor - > Writes.",
                            "1.2 RuleAdded role=Editor - > a b *",
                            "2.0 UserCreated user=ann - > ann",
                            "2.1 UserNamed user=ann - > Ann Lee",
                            "3.0 GroupCreated group=Ops - > Ops",
                            "3.1 RoleAssigned group=Ops role=Editor",
                            "4.0 UserAssigned group=Ops user=ann",
                            "5.0 GroupRenamed group=Devs Ops > Devs",
                            "6.0 UserBlocked user=ann",
                            "7.0 RoleRenamed role=Author Editor > Author",
                            "7.1 RuleRemoved role=Author a b * > -",
                            "8.0 RoleRemoved group=Devs role=Author",
                            "8.1 UserUnassigned group=Devs user=ann",
                            "8.2 GroupDeleted group=Devs Devs > -",
                            "9.0 UserDeleted user=ann ann > -",
                            "10.0 RoleDeleted role=Author Author > -",
                        ]
                    );
                    assert_eq!((list.revision, list.next_page_token.as_str()), (10, ""));
                    assert!(list.history_id.parse::<sea_orm::prelude::Uuid>().is_ok());
                    assert!(list.changes.windows(2).all(|pair| {
                        let seconds = |change: &pb::Change| change.time.expect("a time");
                        let (one, next) = (seconds(&pair[0]), seconds(&pair[1]));
                        (one.seconds, one.nanos) <= (next.seconds, next.nanos)
                    }));

                    // Newest first, in pages.
                    let mut request = pb::ListChangesRequest {
                        page_size: 5,
                        order_by: "revision desc".into(),
                        ..Default::default()
                    };
                    let mut reversed = Vec::new();
                    loop {
                        let page = w
                            .changes
                            .list_changes(request.clone())
                            .await
                            .expect("listed")
                            .into_inner();
                        reversed.extend(page.changes);
                        request.page_token = page.next_page_token;
                        if request.page_token.is_empty() {
                            break;
                        }
                    }
                    reversed.reverse();
                    assert_eq!(reversed, list.changes);

                    // Every filter, with the same result in the watch stream.
                    let all = list.changes;
                    let time = all[7].time;
                    let user = all[3].user.as_ref().expect("a user").id.clone();
                    let role = all[0].role.as_ref().expect("a role").id.clone();
                    type Test = Box<dyn Fn(&pb::Change) -> bool + Send + Sync>;
                    let is = |subject: &Option<pb::Subject>, id: &str| {
                        subject.as_ref().is_some_and(|s| s.id == id)
                    };
                    let filters: Vec<(pb::ChangeFilter, Test)> = vec![
                        (
                            pb::ChangeFilter {
                                group_id: group.clone(),
                                ..Default::default()
                            },
                            Box::new(move |c| is(&c.group, &group)),
                        ),
                        (
                            pb::ChangeFilter {
                                role_id: role.clone(),
                                ..Default::default()
                            },
                            Box::new(move |c| is(&c.role, &role)),
                        ),
                        (
                            pb::ChangeFilter {
                                user_id: user.clone(),
                                ..Default::default()
                            },
                            Box::new(move |c| is(&c.user, &user)),
                        ),
                        (
                            pb::ChangeFilter {
                                actor: "bob".into(),
                                ..Default::default()
                            },
                            Box::new(|c| c.actor == "bob"),
                        ),
                        (
                            pb::ChangeFilter {
                                kinds: vec![
                                    ChangeKind::RuleAdded.into(),
                                    ChangeKind::RuleRemoved.into(),
                                ],
                                ..Default::default()
                            },
                            Box::new(|c| {
                                matches!(c.kind(), ChangeKind::RuleAdded | ChangeKind::RuleRemoved)
                            }),
                        ),
                        (
                            pb::ChangeFilter {
                                start_time: time,
                                ..Default::default()
                            },
                            Box::new(|c| c.revision >= 4),
                        ),
                        (
                            pb::ChangeFilter {
                                end_time: time,
                                ..Default::default()
                            },
                            Box::new(|c| c.revision < 4),
                        ),
                    ];
                    for (filter, wanted) in filters {
                        let expected: Vec<_> = all
                            .iter()
                            .filter(|change| wanted(change))
                            .cloned()
                            .collect();
                        assert!(
                            !expected.is_empty() && expected.len() < all.len(),
                            "{filter:?}"
                        );
                        let request = pb::ListChangesRequest {
                            filter: Some(filter.clone()),
                            ..Default::default()
                        };
                        let list = w
                            .changes
                            .list_changes(request)
                            .await
                            .expect("listed")
                            .into_inner();
                        assert_eq!(list.changes, expected, "{filter:?}");
                        let request = pb::WatchChangesRequest {
                            from_revision: 1,
                            filter: Some(filter),
                            ..Default::default()
                        };
                        let mut feed = w
                            .changes
                            .watch_changes(request)
                            .await
                            .expect("followed")
                            .into_inner();
                        let first = feed.message().await.expect("sent").expect("goes on");
                        assert_eq!((first.changes, first.revision), (expected, 10));
                    }
                    trace
                })
            },
        },
        Success {
            rpc: "WatchChanges",
            run: |w| {
                Box::pin(async move {
                    w.role("First").await;
                    let trace = w.traced();
                    let request = pb::WatchChangesRequest {
                        from_revision: 1,
                        ..Default::default()
                    };
                    let mut feed = w
                        .changes
                        .watch_changes(request)
                        .await
                        .expect("followed")
                        .into_inner();
                    w.trace(None);
                    // Existing changes first, then new ones.
                    let first = feed.message().await.expect("sent").expect("goes on");
                    assert_eq!((first.changes.len(), first.revision), (1, 1));
                    w.role("Second").await;
                    let second = feed.message().await.expect("sent").expect("goes on");
                    assert_eq!(
                        (line(&second.changes[0]).as_str(), second.revision),
                        ("2.0 RoleCreated role=Second - > Second", 2)
                    );
                    assert_eq!(second.history_id, first.history_id);
                    // Only new changes: the first message with the current revision comes at once; without changes,
                    // heartbeats follow.
                    let mut feed = w
                        .changes
                        .watch_changes(pb::WatchChangesRequest::default())
                        .await
                        .expect("followed")
                        .into_inner();
                    for _ in 0..2 {
                        let beat = tokio::time::timeout(
                            std::time::Duration::from_secs(15),
                            feed.message(),
                        )
                        .await;
                        let beat = beat
                            .expect("a heartbeat every 15 seconds")
                            .expect("sent")
                            .expect("goes on");
                        assert_eq!((beat.changes.len(), beat.revision), (0, 2));
                    }
                    trace
                })
            },
        },
    ]
}

pub(crate) fn failures() -> Vec<Failure> {
    vec![
        Failure {
            rpc: "ListChanges",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
                    let filter = pb::ChangeFilter {
                        group_id: "g".into(),
                        actor: "x".repeat(256),
                        kinds: vec![99],
                        start_time: time(2),
                        end_time: time(1),
                        ..Default::default()
                    };
                    let request = pb::ListChangesRequest {
                        filter: Some(filter),
                        order_by: "time".into(),
                        from_revision: -1,
                        history_id: "h".into(),
                        page_size: -1,
                        ..Default::default()
                    };
                    let reported = expect_error(w.changes.list_changes(request).await);
                    let fields = [
                        "filter.group_id",
                        "filter.actor",
                        "filter.kinds[0]",
                        "filter.end_time",
                        "order_by",
                        "from_revision",
                        "history_id",
                        "page_size",
                    ];
                    assert_eq!(reported.fields(), fields);
                    reported
                })
            },
        },
        Failure {
            rpc: "ListChanges",
            reason: "REVISION_UNKNOWN",
            run: |w| {
                Box::pin(async move {
                    w.role("A").await;
                    let other = pb::ListChangesRequest {
                        history_id: unknown_id(),
                        ..Default::default()
                    };
                    assert_eq!(
                        expect_error(w.changes.list_changes(other).await).reason,
                        "REVISION_UNKNOWN"
                    );
                    // `from_revision` may be the next revision, but not a later one.
                    let next = pb::ListChangesRequest {
                        from_revision: 2,
                        ..Default::default()
                    };
                    let none = w
                        .changes
                        .list_changes(next)
                        .await
                        .expect("listed")
                        .into_inner();
                    assert_eq!(none.changes, []);
                    let future = pb::ListChangesRequest {
                        from_revision: 3,
                        ..Default::default()
                    };
                    let reported = expect_error(w.changes.list_changes(future).await);
                    assert_eq!(reported.metadata["revision"], "1");
                    reported
                })
            },
        },
        Failure {
            rpc: "ListChanges",
            reason: "REVISION_COMPACTED",
            run: |_| Box::pin(compacted(false)),
        },
        Failure {
            rpc: "WatchChanges",
            reason: "INVALID_REQUEST",
            run: |w| {
                Box::pin(async move {
                    let filter = pb::ChangeFilter {
                        kinds: vec![1, 1],
                        ..Default::default()
                    };
                    let request = pb::WatchChangesRequest {
                        from_revision: -1,
                        history_id: "h".into(),
                        filter: Some(filter),
                    };
                    let reported = expect_error(w.changes.watch_changes(request).await);
                    assert_eq!(
                        reported.fields(),
                        ["from_revision", "history_id", "filter.kinds[1]"]
                    );
                    reported
                })
            },
        },
        Failure {
            rpc: "WatchChanges",
            reason: "REVISION_UNKNOWN",
            run: |w| {
                Box::pin(async move {
                    let other = pb::WatchChangesRequest {
                        history_id: unknown_id(),
                        ..Default::default()
                    };
                    assert_eq!(
                        expect_error(w.changes.watch_changes(other).await).reason,
                        "REVISION_UNKNOWN"
                    );
                    let future = pb::WatchChangesRequest {
                        from_revision: 2,
                        ..Default::default()
                    };
                    expect_error(w.changes.watch_changes(future).await)
                })
            },
        },
        Failure {
            rpc: "WatchChanges",
            reason: "REVISION_COMPACTED",
            run: |_| Box::pin(compacted(true)),
        },
    ]
}

/// With a retention of one second, requests the first change until it has expired.
async fn compacted(watch: bool) -> crate::harness::CallError {
    let database = Database::create().await;
    let mut command = crate::harness::binary();
    command
        .args(["--listen", "127.0.0.1:0", "--changes-retention", "1s"])
        .args(["--database-url", database.url()]);
    let server = Process::spawn(command).await;
    let channel = server.connect().await;
    let mut roles = pb::role_service_client::RoleServiceClient::new(channel.clone());
    for number in 0..700 {
        let request = pb::CreateRoleRequest {
            name: format!("role {number}"),
            ..Default::default()
        };
        roles.create_role(request).await.expect("created");
    }
    let mut changes = pb::change_service_client::ChangeServiceClient::new(channel);
    let compacted = async {
        loop {
            let request = pb::ListChangesRequest {
                from_revision: 700,
                ..Default::default()
            };
            let list = changes.list_changes(request.clone()).await;
            if list.is_err() {
                break expect_error(list);
            }
        }
    };
    let compacted = tokio::time::timeout(std::time::Duration::from_secs(20), compacted).await;
    let mut answer = compacted.expect("it expires");
    if watch {
        let request = pb::WatchChangesRequest {
            from_revision: 1,
            ..Default::default()
        };
        answer = expect_error(changes.watch_changes(request).await);
    }
    assert_eq!(answer.metadata["oldest_revision"], "701");
    // Retained changes can be listed, new ones watched, and nothing else is lost.
    let list = changes
        .list_changes(pb::ListChangesRequest::default())
        .await
        .expect("listed")
        .into_inner();
    assert_eq!((list.changes.len(), list.revision), (0, 700));
    let request = pb::WatchChangesRequest {
        from_revision: 701,
        ..Default::default()
    };
    let mut feed = changes
        .watch_changes(request)
        .await
        .expect("followed")
        .into_inner();
    let request = pb::CreateRoleRequest {
        name: "next".into(),
        ..Default::default()
    };
    roles.create_role(request).await.expect("created");
    loop {
        let batch = feed.message().await.expect("sent").expect("goes on");
        if let Some(change) = batch.changes.first() {
            assert_eq!(change.revision, 701);
            break;
        }
    }
    server.kill().await;
    answer
}

#[tokio::test]
async fn no_op_writes_create_no_revision() {
    let mut w = TestServer::start().await;
    let role = w.role("A").await;
    let group = w.group("Ops", &[&role.id]).await.id;
    let user = w.user("ann").await.id;
    let assign = crate::member::assign(&group, &user);
    let first = w
        .groups
        .assign_user(assign.clone())
        .await
        .expect("assigned")
        .into_inner()
        .revision;
    assert_eq!(first, 4);
    // A write that changes nothing returns the current revision.
    assert_eq!(
        w.groups
            .assign_user(assign)
            .await
            .expect("no change")
            .into_inner()
            .revision,
        4
    );
    let same = w
        .groups
        .update_group(update(&group))
        .await
        .expect("no change")
        .into_inner();
    assert_eq!(same.revision, 4);
    let gone = pb::DeleteGroupRequest {
        allow_missing: true,
        ..delete(&unknown_id())
    };
    assert_eq!(
        w.groups
            .delete_group(gone)
            .await
            .expect("no change")
            .into_inner()
            .revision,
        4
    );
    expect_error(
        w.groups
            .create_group(crate::group::create("ops", &[&role.id]))
            .await,
    );
    let next = w
        .groups
        .delete_group(delete(&group))
        .await
        .expect("deleted")
        .into_inner()
        .revision;
    assert_eq!(next, 5, "what fails takes none, either");
}

/// Times are stored in microseconds; bounds may be more precise.
#[tokio::test]
async fn time_bounds_are_exact_to_the_nanosecond() {
    let mut w = TestServer::start().await;
    let time = w.role("A").await.create_time.expect("a time");
    let at = |nanos: i64| {
        let nanos = i64::from(time.nanos) + nanos;
        Some(prost_types::Timestamp {
            seconds: time.seconds + nanos.div_euclid(1_000_000_000),
            nanos: i32::try_from(nanos.rem_euclid(1_000_000_000)).expect("less than a second"),
        })
    };
    for (start_time, end_time, found) in [
        (at(-1), at(1), true),
        (at(0), at(1), true),
        (at(0), at(999), true),
        (at(0), at(0), false),
        (at(-1), at(0), false),
        (at(-999), at(0), false),
        (at(1), at(1000), false),
        (at(999), at(1001), false),
        (at(0), None, true),
        (at(1), None, false),
        (None, at(0), false),
        (None, at(1), true),
    ] {
        let filter = Some(pb::ChangeFilter {
            start_time,
            end_time,
            ..Default::default()
        });
        let request = pb::ListChangesRequest {
            filter: filter.clone(),
            ..Default::default()
        };
        let listed = w.changes.list_changes(request).await.expect("listed");
        let listed = listed.into_inner().changes;
        assert_eq!(listed.len(), usize::from(found), "{filter:?}");
        let request = pb::WatchChangesRequest {
            from_revision: 1,
            filter: filter.clone(),
            ..Default::default()
        };
        let feed = w.changes.watch_changes(request).await.expect("followed");
        let first = feed.into_inner().message().await.expect("told");
        assert_eq!(first.expect("goes on").changes, listed, "{filter:?}");
    }
    // Bounds in the wrong order within a microsecond, and invalid timestamps.
    for (start_time, end_time, field) in [
        (at(2), at(1), "filter.end_time"),
        (
            Some(prost_types::Timestamp {
                seconds: 0,
                nanos: -1,
            }),
            None,
            "filter.start_time",
        ),
        (
            None,
            Some(prost_types::Timestamp {
                seconds: i64::MAX / 1_000_000,
                nanos: 999_999_999,
            }),
            "filter.end_time",
        ),
    ] {
        let filter = pb::ChangeFilter {
            start_time,
            end_time,
            ..Default::default()
        };
        let request = pb::ListChangesRequest {
            filter: Some(filter),
            ..Default::default()
        };
        assert_eq!(
            expect_error(w.changes.list_changes(request).await).fields(),
            [field]
        );
    }
}

#[tokio::test]
async fn large_revision_is_delivered_in_batches() {
    let mut w = TestServer::start().await;
    let role = w.role("A").await.id;
    let group = w.group("Ops", &[&role]).await.id;
    let users = w.many_users("user", 1000).await;
    w.groups
        .batch_assign_users(crate::member::assign_all(&group, &users))
        .await
        .expect("assigned");
    let deleted = w
        .groups
        .delete_group(delete(&group))
        .await
        .expect("deleted")
        .into_inner()
        .revision;
    let request = pb::WatchChangesRequest {
        from_revision: deleted,
        ..Default::default()
    };
    let mut feed = w
        .changes
        .watch_changes(request)
        .await
        .expect("followed")
        .into_inner();
    let mut changes = Vec::new();
    loop {
        let batch = feed.message().await.expect("sent").expect("goes on");
        changes.extend(batch.changes);
        if batch.revision == deleted {
            break;
        }
        assert_eq!(
            batch.revision,
            deleted - 1,
            "not complete before the last part"
        );
    }
    let indexes: Vec<_> = changes.iter().map(|change| change.index).collect();
    assert_eq!(indexes, (0..1002).collect::<Vec<_>>());
}

#[tokio::test]
async fn actor_is_taken_from_x_actor_header() {
    let w = TestServer::start().await;
    let call = |actor: &str| {
        let request = pb::CreateRoleRequest {
            name: format!("by {actor:.9}"),
            ..Default::default()
        };
        let mut request = tonic::Request::new(request);
        request
            .metadata_mut()
            .insert("x-actor", actor.parse().expect("ASCII"));
        let mut roles = w.roles.clone();
        async move { roles.create_role(request).await }
    };
    call("ann@shop.example").await.expect("created");
    call(&"x".repeat(255)).await.expect("created");
    let reported = expect_error(call(&"y".repeat(256)).await);
    assert_eq!(reported.fields(), ["x-actor"]);
    let list = w
        .changes
        .clone()
        .list_changes(pb::ListChangesRequest::default())
        .await;
    let actors: Vec<_> = list
        .expect("listed")
        .into_inner()
        .changes
        .into_iter()
        .map(|change| change.actor)
        .collect();
    assert_eq!(actors, ["ann@shop.example".to_owned(), "x".repeat(255)]);
}

#[tokio::test]
async fn duplicate_or_non_ascii_actor_is_rejected() {
    let w = TestServer::start().await;
    let actors: [(&[&[u8]], &str); 3] = [
        (&[b"ann", b"ben"], "must not be given twice"),
        (&[b"ann", b"ann"], "must not be given twice"),
        (&["Zo\u{eb}".as_bytes()], "must be ASCII"),
    ];
    for (actors, complaint) in actors {
        let mut request = tonic::Request::new(pb::CreateRoleRequest {
            name: "A".into(),
            ..Default::default()
        });
        for actor in actors {
            let actor = (*actor).try_into().expect("a header");
            request.metadata_mut().append("x-actor", actor);
        }
        let reported = expect_error(w.roles.clone().create_role(request).await);
        assert_eq!(reported.code, tonic::Code::InvalidArgument);
        let expected = ("x-actor".to_owned(), complaint.to_owned());
        assert_eq!(reported.violations, [expected]);
    }
}

#[tokio::test]
async fn shutdown_ends_watches_with_stopping() {
    let mut w = TestServer::start().await;
    let request = pb::WatchChangesRequest {
        from_revision: 1,
        ..Default::default()
    };
    let mut feed = w
        .changes
        .watch_changes(request)
        .await
        .expect("followed")
        .into_inner();
    let first = feed.message().await.expect("sent").expect("goes on");
    assert_eq!(first.revision, 0);
    let written = w.role("Last").await;
    w.stop().await;
    // Committed changes first, then the reason for the end of the stream.
    let last = feed.message().await.expect("sent").expect("goes on");
    assert_eq!(
        last.changes[0].role.as_ref().expect("a role").id,
        written.id
    );
    let reported = expect_error::<()>(Err(feed.message().await.expect_err("the end")));
    assert_eq!(
        (reported.code, reported.retry),
        (tonic::Code::Unavailable, true)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shutdown_delivers_all_committed_changes_to_watchers() {
    let mut w = TestServer::start().await;
    let mut followers = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let request = pb::WatchChangesRequest {
            from_revision: 1,
            ..Default::default()
        };
        let feed = w.changes.watch_changes(request).await.expect("followed");
        let mut feed = feed.into_inner();
        followers.spawn(async move {
            let mut complete = 0;
            while let Ok(Some(batch)) = feed.message().await {
                complete = batch.revision;
            }
            complete
        });
        // At different times, so that some watcher has always just read the table.
        w.many_roles(&crate::harness::unknown_id(), 3).await;
    }
    w.stop().await;
    assert_eq!(followers.join_all().await, [90; 30]);
}

#[tokio::test]
async fn page_token_is_bound_to_normalized_filter() {
    let mut w = TestServer::start().await;
    let role = w.role("A").await.id;
    for name in ["B", "C"] {
        let request = pb::UpdateRoleRequest {
            role_id: role.clone(),
            name: Some(name.into()),
            ..Default::default()
        };
        w.roles.update_role(request).await.expect("renamed");
    }
    let request = |role_id: String, kinds: [ChangeKind; 2], page_token: String| {
        let filter = pb::ChangeFilter {
            role_id,
            kinds: kinds.map(Into::into).into(),
            ..Default::default()
        };
        pb::ListChangesRequest {
            page_size: 1,
            page_token,
            filter: Some(filter),
            ..Default::default()
        }
    };
    let (created, renamed) = (ChangeKind::RoleCreated, ChangeKind::RoleRenamed);
    let first = request(role.clone(), [created, renamed], String::new());
    let first = w.changes.list_changes(first).await.expect("listed");
    let token = first.into_inner().next_page_token;
    let same = request(role.to_uppercase(), [renamed, created], token.clone());
    let second = w.changes.list_changes(same).await.expect("the same list");
    assert_eq!(second.into_inner().changes[0].revision, 2);
    let other = request(role, [ChangeKind::RoleDeleted, created], token);
    let reported = expect_error(w.changes.list_changes(other).await);
    assert_eq!(reported.fields(), ["page_token"]);
}

/// A deletion records the last state of the resource, so that it is known even if older changes have expired.
#[tokio::test]
async fn deletion_changes_contain_the_last_state() {
    let mut w = TestServer::start().await;
    let role = pb::CreateRoleRequest {
        name: "Editor".into(),
        description: "Writes.\nReads.".into(),
        rules: vec![allow("a", "b", "*")],
        ..Default::default()
    };
    let role = w.roles.create_role(role).await.expect("created");
    let role = role.into_inner().role.expect("a role");
    let plain = w.role("Plain").await;
    let group = w.group("Ops", &[&role.id]).await;
    let rename = pb::UpdateGroupRequest {
        title: Some("Devs".into()),
        ..update(&group.id)
    };
    let group = w.groups.update_group(rename).await.expect("renamed");
    let group = group.into_inner().group.expect("a group");
    let user = pb::CreateUserRequest {
        username: "ann".into(),
        first_name: "Ann".into(),
        last_name: "Lee".into(),
        ..Default::default()
    };
    let user = w.users.create_user(user).await.expect("created");
    let block = pb::UpdateUserRequest {
        user_id: user.into_inner().user.expect("a user").id,
        status: Some(pb::UserStatus::Blocked.into()),
        ..Default::default()
    };
    let user = w.users.update_user(block).await.expect("blocked");
    let user = user.into_inner().user.expect("a user");
    let active = w.user("bob").await;
    w.assign(&group.id, &user.id).await;

    let before = w.changes.list_changes(pb::ListChangesRequest::default());
    let before = before.await.expect("listed").into_inner();
    assert!(before.changes.iter().all(|c| c.last_state.is_none()));
    let deleted = w.groups.delete_group(delete(&group.id)).await;
    deleted.expect("deleted");
    for id in [&user.id, &active.id] {
        let deleted = w.users.delete_user(crate::user::delete(id)).await;
        deleted.expect("deleted");
    }
    for id in [&role.id, &plain.id] {
        let deleted = w.roles.delete_role(crate::role::delete(id)).await;
        deleted.expect("deleted");
    }

    let request = pb::ListChangesRequest {
        from_revision: before.revision + 1,
        ..Default::default()
    };
    let listed = w.changes.list_changes(request).await.expect("listed");
    let listed = listed.into_inner().changes;
    let names = |first: &str, last: &str| {
        Some(pb::PersonName {
            first_name: first.into(),
            last_name: last.into(),
        })
    };
    let states: Vec<_> = listed
        .iter()
        .filter_map(|change| Some((change.kind(), change.last_state.clone()?)))
        .collect();
    let of_user = |user: &pb::User, person_name| pb::LastState {
        create_time: user.create_time,
        update_time: user.update_time,
        etag: user.etag.clone(),
        person_name,
        status: user.status,
        ..Default::default()
    };
    let of_role = |role: &pb::Role| pb::LastState {
        create_time: role.create_time,
        update_time: role.update_time,
        etag: role.etag.clone(),
        description: role.description.clone(),
        ..Default::default()
    };
    let of_group = pb::LastState {
        create_time: group.create_time,
        update_time: group.update_time,
        etag: group.etag.clone(),
        ..Default::default()
    };
    assert_ne!(group.create_time, group.update_time);
    assert_eq!(
        states,
        [
            (ChangeKind::GroupDeleted, of_group),
            (ChangeKind::UserDeleted, of_user(&user, names("Ann", "Lee"))),
            (ChangeKind::UserDeleted, of_user(&active, names("", ""))),
            (ChangeKind::RoleDeleted, of_role(&role)),
            (ChangeKind::RoleDeleted, of_role(&plain)),
        ]
    );
    // The watch stream returns the same changes.
    let request = pb::WatchChangesRequest {
        from_revision: before.revision + 1,
        ..Default::default()
    };
    let feed = w.changes.watch_changes(request).await.expect("followed");
    let first = feed.into_inner().message().await.expect("told");
    assert_eq!(first.expect("goes on").changes, listed);
}

/// Earlier versions accepted names that this one rejects.
#[tokio::test]
async fn deletion_changes_contain_names_that_no_longer_validate() {
    let mut w = TestServer::start().await;
    let user = w.user("ann").await;
    let role = w.role("Editor").await;
    let name = "\u{202e}nnA";
    let database = w.database.connect().await;
    let rename = format!("UPDATE users SET first_name = '{name}'");
    let describe = format!("UPDATE roles SET description = '{name}'");
    for sql in [rename, describe] {
        let updated = database.execute_unprepared(&sql).await;
        assert_eq!(updated.expect("updated").rows_affected(), 1);
    }
    let deleted = w.users.delete_user(crate::user::delete(&user.id)).await;
    deleted.expect("deleted");
    let deleted = w.roles.delete_role(crate::role::delete(&role.id)).await;
    deleted.expect("deleted");
    let listed = w.changes.list_changes(pb::ListChangesRequest::default());
    let listed = listed.await.expect("listed").into_inner();
    let states = listed.changes.into_iter();
    let states: Vec<_> = states.filter_map(|change| change.last_state).collect();
    let [user, role] = &states[..] else {
        panic!("{states:?}");
    };
    let names = user.person_name.as_ref().expect("names");
    assert_eq!((&names.first_name[..], &role.description[..]), (name, name));
}

/// Makes a change of every kind, from the creation of a group to the deletion of everything.
async fn stage(w: &mut TestServer) -> String {
    let request = pb::CreateRoleRequest {
        name: "Editor".into(),
        description: "Writes.".into(),
        rules: vec![allow("a", "b", "*")],
        ..Default::default()
    };
    let role = w
        .roles
        .create_role(request)
        .await
        .expect("created")
        .into_inner()
        .role
        .expect("a role")
        .id;
    let request = pb::CreateUserRequest {
        username: "ann".into(),
        first_name: "Ann".into(),
        last_name: "Lee".into(),
        ..Default::default()
    };
    let user = w
        .users
        .create_user(request)
        .await
        .expect("created")
        .into_inner()
        .user
        .expect("a user")
        .id;
    let group = w.group("Ops", &[&role]).await.id;
    w.assign(&group, &user).await;
    let rename = pb::UpdateGroupRequest {
        title: Some("Devs".into()),
        ..update(&group)
    };
    let mut rename = tonic::Request::new(rename);
    rename
        .metadata_mut()
        .insert("x-actor", "bob".parse().expect("ASCII"));
    w.groups.update_group(rename).await.expect("renamed");
    let status = Some(pb::UserStatus::Blocked.into());
    let block = pb::UpdateUserRequest {
        user_id: user.clone(),
        status,
        ..Default::default()
    };
    w.users.update_user(block).await.expect("blocked");
    let change = pb::UpdateRoleRequest {
        role_id: role.clone(),
        name: Some("Author".into()),
        remove_rules: vec![allow("a", "b", "*")],
        ..Default::default()
    };
    w.roles.update_role(change).await.expect("changed");
    w.groups
        .delete_group(delete(&group))
        .await
        .expect("deleted");
    w.users
        .delete_user(crate::user::delete(&user))
        .await
        .expect("deleted");
    w.roles
        .delete_role(crate::role::delete(&role))
        .await
        .expect("deleted");
    group
}

/// Formats a change as one line.
fn line(change: &pb::Change) -> String {
    let mut line = format!("{}.{} {:?}", change.revision, change.index, change.kind());
    for (kind, subject) in [
        ("group", &change.group),
        ("role", &change.role),
        ("user", &change.user),
    ] {
        if let Some(subject) = subject {
            line.push_str(&format!(" {kind}={}", subject.name));
        }
    }
    if change.before.is_some() || change.after.is_some() {
        line.push_str(&format!(
            " {} > {}",
            value(change.before.as_ref()),
            value(change.after.as_ref())
        ));
    }
    line
}

fn value(value: Option<&pb::Value>) -> String {
    match value.and_then(|value| value.value.clone()) {
        None => "-".to_owned(),
        Some(Value::Name(text) | Value::Description(text) | Value::Raw(text)) => text,
        Some(Value::Rule(rule)) => format!("{} {} {}", rule.bundle, rule.controller, rule.action),
        Some(Value::PersonName(name)) => format!("{} {}", name.first_name, name.last_name),
    }
}
