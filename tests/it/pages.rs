//! Paging: consistent under concurrent writes; page tokens are only valid for their list.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use group_service::pb;
use tokio::task::JoinSet;

use crate::{
    group::{create, delete, update},
    harness::{Groups, TestServer, expect_error},
};

const GROUPS: usize = 10_000;
const PAGE: i32 = 7;

/// Rows that exist and keep their sort key throughout are returned exactly once, in each order, while other rows
/// are created, deleted and renamed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paging_under_writes_returns_stable_rows_exactly_once() {
    let w = TestServer::start().await;
    let role = w.role("A").await.id;
    let ids = seed(&w.groups, &role).await;
    // Every tenth group is renamed or deleted meanwhile; the others don't change.
    let standing = |number: usize| !number.is_multiple_of(10);

    let over = Arc::new(AtomicBool::new(false));
    let changes = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    for writer in 0..3 {
        let (mut groups, role, over) = (w.groups.clone(), role.clone(), over.clone());
        let (changes, ids) = (changes.clone(), ids.clone());
        writers.spawn(async move {
            let mut round = 0;
            while !over.load(Ordering::Relaxed) {
                // Spread over the whole list, so that writes happen before and after each reader's position.
                let number = (round * 7919 + writer * 10) % GROUPS / 10 * 10;
                let title = format!("{} {number} x{writer}.{round}", ["A", "M", "Z"][round % 3]);
                match round % 4 {
                    0 => drop(
                        groups
                            .create_group(create(&title, &[&role]))
                            .await
                            .expect("created"),
                    ),
                    1 => {
                        let request = pb::DeleteGroupRequest {
                            allow_missing: true,
                            ..delete(&ids[number])
                        };
                        groups.delete_group(request).await.expect("deleted");
                    }
                    _ => {
                        let request = pb::UpdateGroupRequest {
                            title: Some(title),
                            ..update(&ids[number])
                        };
                        if let Err(status) = groups.update_group(request).await {
                            assert_eq!(status.code(), tonic::Code::NotFound, "{status:?}");
                        }
                    }
                }
                changes.fetch_add(1, Ordering::Relaxed);
                round += 1;
            }
        });
    }

    let mut walkers = JoinSet::new();
    for order in ["title", "title desc", "create_time", "create_time desc"] {
        let groups = w.groups.clone();
        walkers.spawn(async move { (order, walk(groups, order).await) });
    }
    let walks = walkers.join_all().await;
    over.store(true, Ordering::Relaxed);
    writers.join_all().await;
    assert!(
        changes.load(Ordering::Relaxed) > 100,
        "the writers wrote all the while"
    );

    // The groups of a user that have a role, where many groups have that role.
    let user = w.user("U").await.id;
    let mut wanted = Vec::new();
    for number in (1..GROUPS).step_by(997).filter(|number| standing(*number)) {
        w.assign(&ids[number], &user).await;
        wanted.push(ids[number].clone());
    }
    for order_by in ["create_time", "create_time desc"] {
        let request = pb::ListGroupsRequest {
            user_id: user.clone(),
            role_id: role.clone(),
            order_by: order_by.into(),
            with_total_size: true,
            ..Default::default()
        };
        let listed = w.groups.clone().list_groups(request).await;
        let listed = listed.expect("listed").into_inner();
        assert_eq!(listed.total_size, Some(wanted.len() as i64));
        let mut listed: Vec<_> = listed.groups.into_iter().map(|group| group.id).collect();
        listed.sort();
        wanted.sort();
        assert_eq!(listed, wanted, "{order_by}");
    }

    let numbers: HashMap<_, _> = ids
        .iter()
        .enumerate()
        .map(|(number, id)| (id, number))
        .collect();
    for (order, seen) in walks {
        let mut times = BTreeMap::new();
        for id in &seen {
            if let Some(number) = numbers.get(id).filter(|number| standing(**number)) {
                *times.entry(*number).or_insert(0) += 1;
            }
        }
        let wrong: Vec<_> = (0..GROUPS)
            .filter(|number| standing(*number) && times.get(number) != Some(&1))
            .collect();
        assert!(
            wrong.is_empty(),
            "not seen exactly once by {order}: {wrong:?}"
        );
        if order.starts_with("create_time") {
            // A rename doesn't change this order, so no row at all is returned twice.
            let distinct: std::collections::HashSet<_> = seen.iter().collect();
            assert_eq!(distinct.len(), seen.len(), "{order}");
        }
    }
}

async fn seed(groups: &Groups, role: &str) -> Arc<Vec<String>> {
    let mut seeders = JoinSet::new();
    for seeder in 0..32 {
        let (mut groups, role) = (groups.clone(), role.to_owned());
        seeders.spawn(async move {
            let mut ids = Vec::new();
            for number in (seeder..GROUPS).step_by(32) {
                // The order of titles differs from the order of creation.
                let title = format!("Group {} of {number}", number * 7919 % GROUPS);
                let group = groups
                    .create_group(create(&title, &[&role]))
                    .await
                    .expect("created");
                ids.push((number, group.into_inner().group.expect("a group").id));
            }
            ids
        });
    }
    let mut ids: Vec<_> = seeders.join_all().await.into_iter().flatten().collect();
    ids.sort_unstable();
    Arc::new(ids.into_iter().map(|(_, id)| id).collect())
}

async fn walk(mut groups: Groups, order: &str) -> Vec<String> {
    let mut request = pb::ListGroupsRequest {
        page_size: PAGE,
        order_by: order.into(),
        ..Default::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = groups
            .list_groups(request.clone())
            .await
            .expect("listed")
            .into_inner();
        assert!(page.groups.len() <= PAGE as usize);
        assert!(
            page.groups.iter().all(|group| group.roles.len() == 1),
            "no half group"
        );
        seen.extend(page.groups.into_iter().map(|group| group.id));
        if page.next_page_token.is_empty() {
            return seen;
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn page_size_defaults_to_50_and_is_capped_at_1000() {
    let mut w = TestServer::start().await;
    let users = w.many_users("user", 1001).await;
    let role = w.role("A").await;
    let group = w.group("Ops", &[&role.id]).await;
    let request = crate::member::assign_all(&group.id, &users[..1000]);
    w.groups
        .batch_assign_users(request)
        .await
        .expect("assigned");
    for (asked, given) in [
        (0, 50),
        (1, 1),
        (1000, 1000),
        (1001, 1000),
        (i32::MAX, 1000),
    ] {
        let request = pb::ListUsersRequest {
            page_size: asked,
            ..Default::default()
        };
        let page = w
            .users
            .list_users(request)
            .await
            .expect("listed")
            .into_inner();
        assert_eq!(page.users.len(), given, "{asked}");
        assert_ne!(page.next_page_token, "", "{asked}");
    }
    // A full last page has no next page token.
    let request = pb::ListUsersInGroupRequest {
        page_size: 1000,
        ..crate::member::users_in(&group.id)
    };
    let page = w
        .groups
        .list_users_in_group(request)
        .await
        .expect("listed")
        .into_inner();
    assert_eq!(
        (page.users.len(), page.next_page_token.as_str()),
        (1000, "")
    );
}

#[tokio::test]
async fn every_list_can_be_paged_in_every_order() {
    let mut w = TestServer::start().await;
    let roles = w.many_roles("role", 12).await;
    let users = w.many_users("user", 12).await;
    let ids: Vec<_> = roles.iter().map(String::as_str).collect();
    let group = w.group("Ops", &ids).await.id;
    w.groups
        .batch_assign_users(crate::member::assign_all(&group, &users))
        .await
        .expect("assigned");

    for (order, reverse) in [
        ("", false),
        ("name desc", true),
        ("create_time", false),
        ("create_time desc", true),
    ] {
        let mut expected = roles.clone();
        if reverse {
            expected.reverse();
        }
        let mut seen = Vec::new();
        let mut request = pb::ListRolesRequest {
            page_size: 5,
            order_by: order.into(),
            ..Default::default()
        };
        for size in [5, 1, 6] {
            // The page size may change between pages; the order may not.
            request.page_size = size;
            let page = w
                .roles
                .list_roles(request.clone())
                .await
                .expect("listed")
                .into_inner();
            seen.extend(page.roles.into_iter().map(|role| role.id));
            request.page_token = page.next_page_token;
        }
        assert_eq!(request.page_token, "", "the last page");
        assert_eq!(seen, expected, "{order}");

        let mut seen = Vec::new();
        let order_by = order.replace("name", "username");
        let mut request = pb::ListUsersRequest {
            page_size: 5,
            order_by,
            ..Default::default()
        };
        loop {
            let page = w
                .users
                .list_users(request.clone())
                .await
                .expect("listed")
                .into_inner();
            seen.extend(page.users.into_iter().map(|user| user.id));
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        let mut expected = users.clone();
        if reverse {
            expected.reverse();
        }
        assert_eq!(seen, expected, "{order}");
    }

    let mut request = pb::ListRolesInGroupRequest {
        group_id: group.clone(),
        page_size: 6,
        ..Default::default()
    };
    let first = w
        .groups
        .list_roles_in_group(request.clone())
        .await
        .expect("listed")
        .into_inner();
    request.page_token = first.next_page_token;
    let second = w
        .groups
        .list_roles_in_group(request.clone())
        .await
        .expect("listed")
        .into_inner();
    let seen: Vec<_> = first
        .roles
        .into_iter()
        .chain(second.roles)
        .map(|role| role.id)
        .collect();
    assert_eq!((seen, second.next_page_token.as_str()), (roles, ""));

    // All roles after the first page have been removed: the second page is empty, while the group still exists.
    let remove_role_ids = w
        .get_group(&group)
        .await
        .roles
        .split_off(6)
        .into_iter()
        .map(|r| r.id)
        .collect();
    let shrink = pb::UpdateGroupRequest {
        remove_role_ids,
        ..update(&group)
    };
    w.groups.update_group(shrink).await.expect("updated");
    let second = w
        .groups
        .list_roles_in_group(request)
        .await
        .expect("no error")
        .into_inner();
    assert_eq!(
        (second.roles, second.next_page_token),
        (vec![], String::new())
    );
}

#[tokio::test]
async fn filters_combine_and_total_size_counts_all_pages() {
    let mut w = TestServer::start().await;
    let (a, b) = (w.role("A").await.id, w.role("B").await.id);
    let user = w.user("ann").await.id;
    for number in 0..30 {
        let roles: &[&str] = if number % 2 == 0 { &[&a, &b] } else { &[&a] };
        let group = w.group(&format!("Team {number}"), roles).await.id;
        if number % 3 == 0 {
            w.assign(&group, &user).await;
        }
    }
    let all = pb::ListGroupsRequest {
        page_size: 2,
        with_total_size: true,
        ..Default::default()
    };
    let by_role = pb::ListGroupsRequest {
        role_id: b,
        ..all.clone()
    };
    let by_user = pb::ListGroupsRequest {
        user_id: user.clone(),
        ..all.clone()
    };
    let by_query = pb::ListGroupsRequest {
        query: "TEAM 1".into(),
        ..all.clone()
    };
    let by_both = pb::ListGroupsRequest {
        user_id: user.clone(),
        ..by_role.clone()
    };
    let by_all = pb::ListGroupsRequest {
        query: "2".into(),
        ..by_both.clone()
    };
    let nobody = pb::ListGroupsRequest {
        user_id: crate::harness::unknown_id(),
        ..all.clone()
    };
    for (request, expected) in [
        (all, 30),
        (by_role, 15),
        (by_user, 10),
        (by_query, 12),
        (by_both, 5),
        (by_all, 2),
        (nobody, 0),
    ] {
        let mut request = request;
        let mut seen = 0;
        loop {
            let page = w
                .groups
                .list_groups(request.clone())
                .await
                .expect("listed")
                .into_inner();
            assert_eq!(page.total_size, Some(expected), "{request:?}");
            seen += page.groups.len() as i64;
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, expected, "{request:?}");
    }
    for (status, expected) in [(pb::UserStatus::Active, 1), (pb::UserStatus::Blocked, 0)] {
        let request = pb::ListUsersRequest {
            status: status.into(),
            ..Default::default()
        };
        let list = w
            .users
            .list_users(request)
            .await
            .expect("listed")
            .into_inner();
        assert_eq!(list.users.len(), expected);
    }
}

#[tokio::test]
async fn page_token_of_other_list_is_rejected() {
    let mut w = TestServer::start().await;
    let role = w.role("A").await.id;
    for number in 0..5 {
        w.group(&format!("Team {number}"), &[&role]).await;
        w.role(&format!("Team {number}")).await;
    }
    let mine = pb::ListGroupsRequest {
        page_size: 1,
        query: "team".into(),
        ..Default::default()
    };
    let token = w
        .groups
        .list_groups(mine.clone())
        .await
        .expect("listed")
        .into_inner()
        .next_page_token;
    let mine = pb::ListGroupsRequest {
        page_token: token.clone(),
        ..mine
    };
    w.groups
        .list_groups(mine.clone())
        .await
        .expect("its own token");

    let mut foreign = vec![
        // The token with another filter or order.
        pb::ListGroupsRequest {
            query: "tea".into(),
            ..mine.clone()
        },
        pb::ListGroupsRequest {
            query: String::new(),
            ..mine.clone()
        },
        pb::ListGroupsRequest {
            role_id: role.clone(),
            ..mine.clone()
        },
        pb::ListGroupsRequest {
            user_id: role.clone(),
            ..mine.clone()
        },
        pb::ListGroupsRequest {
            order_by: "title desc".into(),
            ..mine.clone()
        },
        pb::ListGroupsRequest {
            order_by: "create_time".into(),
            ..mine.clone()
        },
    ];
    let with = |page_token: String| pb::ListGroupsRequest {
        page_token,
        ..mine.clone()
    };
    // Tokens of another list, of no list, and too long ones.
    let request = pb::ListRolesRequest {
        page_size: 1,
        query: "team".into(),
        ..Default::default()
    };
    let other = w
        .roles
        .list_roles(request)
        .await
        .expect("listed")
        .into_inner()
        .next_page_token;
    foreign.extend(
        [
            other,
            "x".into(),
            "====".into(),
            "é".into(),
            "A".repeat(10_000),
        ]
        .map(with),
    );
    foreign.push(with(format!("{token}A")));
    // Tokens truncated or altered at any position.
    foreign.extend((1..token.len()).map(|len| with(token[..len].to_owned())));
    for at in 0..token.len() {
        let altered = if &token[at..=at] == "A" { "B" } else { "A" };
        foreign.push(with(format!(
            "{}{altered}{}",
            &token[..at],
            &token[at + 1..]
        )));
    }
    for request in foreign {
        let reported = expect_error(w.groups.list_groups(request.clone()).await);
        assert_eq!(reported.code, tonic::Code::InvalidArgument, "{request:?}");
        assert_eq!(reported.fields(), ["page_token"], "{request:?}");
    }
}
