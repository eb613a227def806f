//! Freshness: a response is correct for the revision that it names, and never older than `min_revision`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering},
};

use group_service::pb::{self, Cause, ChangeKind};
use tokio::task::JoinSet;
use tonic::Code;

use crate::{
    access::{allow, check},
    harness::{TestServer, expect_error, raw},
    member::{assign, unassign},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_reflect_at_least_min_revision() {
    let w = TestServer::start().await;
    let role = w.role("A").await.id;
    for round in 0..50 {
        let request = crate::group::create(&format!("Team {round}"), &[&role]);
        let written = w
            .groups
            .clone()
            .create_group(request)
            .await
            .expect("created")
            .into_inner();
        let id = written.group.expect("a group").id;
        let mut readers = JoinSet::new();
        for _ in 0..16 {
            let (mut groups, id) = (w.groups.clone(), id.clone());
            readers.spawn(async move {
                let request = pb::GetGroupRequest {
                    group_id: id,
                    min_revision: written.revision,
                };
                groups
                    .get_group(request)
                    .await
                    .expect("there")
                    .into_inner()
                    .revision
            });
        }
        for seen in readers.join_all().await {
            assert!(seen >= written.revision);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn responses_match_their_revision() {
    let mut w = TestServer::start().await;
    let request = pb::CreateRoleRequest {
        name: "A".into(),
        rules: vec![allow("a", "b", "c")],
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
    let user = w.user("ann").await.id;
    let group = w.group("Ops", &[&role]).await.id;

    let (over, acknowledged) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicI64::new(0)),
    );
    let checked = Arc::new(AtomicUsize::new(0));
    let mut checkers = JoinSet::new();
    for _ in 0..16 {
        let (mut access, user) = (w.access.clone(), user.clone());
        let (over, acknowledged, checked) = (over.clone(), acknowledged.clone(), checked.clone());
        checkers.spawn(async move {
            let mut answers = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let wanted = acknowledged.load(Ordering::SeqCst);
                let request = pb::CheckAccessRequest {
                    min_revision: wanted,
                    ..check(&user, "a b c")
                };
                let answer = access
                    .check_access(request)
                    .await
                    .expect("decided")
                    .into_inner();
                assert!(
                    answer.revision >= wanted,
                    "stale: {} for {wanted}",
                    answer.revision
                );
                answers.push((answer.revision, answer.cause() == Cause::AllowRule));
                checked.fetch_add(1, Ordering::SeqCst);
            }
            answers
        });
    }
    for flip in 0..300_usize {
        let revision = if flip.is_multiple_of(2) {
            w.groups
                .assign_user(assign(&group, &user))
                .await
                .expect("assigned")
                .into_inner()
                .revision
        } else {
            w.groups
                .unassign_user(unassign(&group, &user))
                .await
                .expect("unassigned")
                .into_inner()
                .revision
        };
        acknowledged.store(revision, Ordering::SeqCst);
        // Make sure that reads happen between the writes.
        while checked.load(Ordering::SeqCst) <= flip + 1 {
            if let Some(ended) = checkers.try_join_next() {
                ended.expect("no stale answer");
            }
            tokio::task::yield_now().await;
        }
    }
    over.store(true, Ordering::Relaxed);
    let answers: Vec<_> = checkers.join_all().await.into_iter().flatten().collect();
    assert!(answers.len() > 300, "{}", answers.len());

    let request = pb::ListChangesRequest {
        page_size: 1000,
        ..Default::default()
    };
    let changes = w
        .changes
        .list_changes(request)
        .await
        .expect("listed")
        .into_inner()
        .changes;
    for (revision, allowed) in answers {
        let last = changes.iter().rfind(|change| {
            let flips = matches!(
                change.kind(),
                ChangeKind::UserAssigned | ChangeKind::UserUnassigned
            );
            flips && change.revision <= revision
        });
        let member = last.is_some_and(|change| change.kind() == ChangeKind::UserAssigned);
        assert_eq!(allowed, member, "at revision {revision}");
    }
}

#[tokio::test]
async fn future_min_revision_waits_then_fails_as_unknown() {
    let w = TestServer::start().await;
    let role = w.role("A").await.id;
    let waiting = tokio::spawn({
        let mut roles = w.roles.clone();
        async move {
            roles
                .get_role(pb::GetRoleRequest {
                    role_id: role,
                    min_revision: 2,
                })
                .await
        }
    });
    w.role("B").await;
    let answer = waiting.await.expect("no panic").expect("it came");
    assert!(answer.into_inner().revision >= 2);

    // All RPCs with `min_revision`, concurrently: each waits for 5 seconds.
    let mut calls = JoinSet::new();
    let mut count = 0;
    for method in raw::methods() {
        let Some(field) = method.input().get_field_by_name("min_revision") else {
            continue;
        };
        let request = raw::valid_request(&method);
        let mut message =
            prost_reflect::DynamicMessage::decode(method.input(), &request[..]).expect("valid");
        message.set_field(&field, prost_reflect::Value::I64(1_000_000));
        let (channel, path) = (w.channel.clone(), raw::path(&method));
        let request = prost::Message::encode_to_vec(&message);
        calls.spawn(async move { (path.clone(), raw::call(&channel, &path, request).await) });
        count += 1;
    }
    assert_eq!(count, 13);
    for (path, answer) in calls.join_all().await {
        let reported = expect_error(answer);
        assert_eq!(
            (reported.code, &*reported.reason),
            (Code::OutOfRange, "REVISION_UNKNOWN"),
            "{path}"
        );
    }
}
