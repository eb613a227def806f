//! Concurrent writes: the result is one that some sequential order would give.

use std::{collections::BTreeMap, future::Future, sync::Arc};

use group_service::pb;
use tokio::{sync::Barrier, task::JoinSet};
use tonic::Code;

use crate::{
    group::{create, update},
    harness::{TestServer, expect_error},
    member::{assign_all, unassign_all, users_in},
};

const ROUNDS: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_creates_of_one_title_have_one_winner() {
    let w = TestServer::start().await;
    let role = w.role("A").await.id;
    for round in 0..ROUNDS {
        let outcomes = at_once((0..64).map(|caller| {
            let mut groups = w.groups.clone();
            let title = [format!("Team {round}"), format!("TEAM {round}")][caller % 2].clone();
            let role = role.clone();
            async move {
                match groups.create_group(create(&title, &[&role])).await {
                    Ok(_) => "won".to_owned(),
                    lost => expect_error(lost).reason,
                }
            }
        }))
        .await;
        let expected = [("GROUP_TITLE_TAKEN".to_owned(), 63), ("won".to_owned(), 1)];
        assert_eq!(outcomes, BTreeMap::from(expected), "round {round}");
    }
    assert_eq!(w.get_role(&role).await.group_count, ROUNDS as i64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_removals_leave_at_least_one_role() {
    let w = TestServer::start().await;
    let roles = [w.role("A").await.id, w.role("B").await.id];
    for round in 0..ROUNDS {
        let group = w
            .group(&format!("Team {round}"), &[&roles[0], &roles[1]])
            .await
            .id;
        let outcomes = at_once(roles.clone().map(|role| {
            let mut groups = w.groups.clone();
            let request = pb::UpdateGroupRequest {
                remove_role_ids: vec![role],
                ..update(&group)
            };
            async move {
                match groups.update_group(request).await {
                    Ok(_) => "won".to_owned(),
                    lost => expect_error(lost).reason,
                }
            }
        }))
        .await;
        let expected = [("GROUP_NEEDS_ROLE".to_owned(), 1), ("won".to_owned(), 1)];
        assert_eq!(outcomes, BTreeMap::from(expected), "round {round}");
        assert_eq!(w.get_group(&group).await.roles.len(), 1, "round {round}");
    }
    let counts = [
        w.get_role(&roles[0]).await.group_count,
        w.get_role(&roles[1]).await.group_count,
    ];
    assert_eq!(counts.iter().sum::<i64>(), ROUNDS as i64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_assignments_keep_counts_consistent() {
    let mut w = TestServer::start().await;
    let role = w.role("A").await.id;
    let group = w.group("Ops", &[&role]).await.id;
    let users = vec![w.user("ann").await.id];
    let mut there = 0;
    for round in 0..ROUNDS {
        // Each batch returns how many users it changed: the sum must match the final state.
        let changes = at_once((0..32).map(|caller| {
            let (mut groups, group, users) = (w.groups.clone(), group.clone(), users.clone());
            async move {
                if caller % 2 == 0 {
                    let response = groups.batch_assign_users(assign_all(&group, &users)).await;
                    response.expect("assigned").into_inner().assigned_count
                } else {
                    let response = groups
                        .batch_unassign_users(unassign_all(&group, &users))
                        .await;
                    -response.expect("unassigned").into_inner().unassigned_count
                }
            }
        }))
        .await;
        there += changes
            .iter()
            .map(|(change, times)| change * *times as i32)
            .sum::<i32>();
        assert!((0..=1).contains(&there), "round {round}: {changes:?}");
        assert_eq!(
            w.get_group(&group).await.user_count,
            i64::from(there),
            "round {round}"
        );
        let request = pb::ListUsersInGroupRequest {
            with_total_size: true,
            ..users_in(&group)
        };
        let list = w
            .groups
            .list_users_in_group(request)
            .await
            .expect("listed")
            .into_inner();
        assert_eq!(
            (list.users.len() as i32, list.total_size),
            (there, Some(i64::from(there)))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_role_deletion_leaves_no_dangling_references() {
    let w = TestServer::start().await;
    let keep = w.role("Keep").await.id;
    let group = w.group("Ops", &[&keep]).await.id;
    let mut seen = BTreeMap::new();
    for round in 0..ROUNDS {
        let role = w.role(&format!("Role {round}")).await.id;
        let outcomes = at_once((0..2).map(|caller| {
            let (mut groups, mut roles) = (w.groups.clone(), w.roles.clone());
            let (group, role) = (group.clone(), role.clone());
            async move {
                let result = if caller == (round % 2) {
                    roles
                        .delete_role(crate::role::delete(&role))
                        .await
                        .map(|_| "deleted")
                } else {
                    let request = pb::UpdateGroupRequest {
                        add_role_ids: vec![role],
                        ..update(&group)
                    };
                    groups.update_group(request).await.map(|_| "given")
                };
                match result {
                    Ok(done) => done.to_owned(),
                    Err(status) => expect_error::<()>(Err(status)).reason,
                }
            }
        }))
        .await;
        let outcomes: Vec<_> = outcomes.into_keys().collect();
        let has = w.get_group(&group).await.roles.iter().any(|r| r.id == role);
        match outcomes.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["ROLE_IN_USE", "given"] => assert!(has, "round {round}"),
            ["ROLE_NOT_FOUND", "deleted"] => assert!(!has, "round {round}"),
            _ => panic!("round {round}: {outcomes:?}"),
        }
        *seen.entry(outcomes).or_insert(0) += 1;
    }
    assert_clean(&w).await;
}

/// Runs the calls concurrently, and counts their outcomes.
async fn at_once<T, F>(callers: impl IntoIterator<Item = F>) -> BTreeMap<T, usize>
where
    T: Ord + Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let callers: Vec<_> = callers.into_iter().collect();
    let barrier = Arc::new(Barrier::new(callers.len()));
    let mut set = JoinSet::new();
    for caller in callers {
        let barrier = barrier.clone();
        set.spawn(async move {
            barrier.wait().await;
            caller.await
        });
    }
    let mut outcomes = BTreeMap::new();
    for outcome in set.join_all().await {
        *outcomes.entry(outcome).or_insert(0) += 1;
    }
    outcomes
}

async fn assert_clean(w: &TestServer) {
    crate::crash::assert_consistent(&w.database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writes_never_fail_as_busy() {
    let w = TestServer::start().await;
    let roles = w.many_roles("role", 4).await;
    let users = w.many_users("user", 8).await;
    let group = w.group("Ops", &[&roles[0]]).await.id;
    let codes = at_once((0..48).map(|caller: usize| {
        let (mut g, mut r) = (w.groups.clone(), w.roles.clone());
        let (roles, users, group) = (roles.clone(), users.clone(), group.clone());
        async move {
            let mut codes = std::collections::BTreeSet::new();
            for round in 0..25 {
                let role = &roles[(caller + round) % roles.len()];
                let user = &users[(caller * 3 + round) % users.len()];
                let title = format!("Team {}", (caller + round) % 10);
                let code = match (caller + round) % 6 {
                    0 => g.create_group(create(&title, &[role])).await.map(drop),
                    1 => g
                        .list_groups(pb::ListGroupsRequest::default())
                        .await
                        .map(drop),
                    2 => g
                        .assign_user(crate::member::assign(&group, user))
                        .await
                        .map(drop),
                    3 => g
                        .unassign_user(crate::member::unassign(&group, user))
                        .await
                        .map(drop),
                    4 => r.delete_role(crate::role::delete(role)).await.map(drop),
                    _ => g
                        .update_group(pb::UpdateGroupRequest {
                            add_role_ids: vec![role.clone()],
                            ..update(&group)
                        })
                        .await
                        .map(drop),
                };
                codes.insert(code.map_or_else(|status| status.code() as i32, |()| 0));
            }
            codes
        }
    }))
    .await;
    let allowed = [
        Code::Ok,
        Code::NotFound,
        Code::AlreadyExists,
        Code::FailedPrecondition,
    ];
    for codes in codes.into_keys() {
        for code in codes {
            assert!(
                allowed.contains(&Code::from_i32(code)),
                "{:?}",
                Code::from_i32(code)
            );
        }
    }
    assert_clean(&w).await;
}
