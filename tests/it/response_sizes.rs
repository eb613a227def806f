//! No response is larger than 3 MiB, whatever the data: gRPC clients accept 4 MiB. Lists within resources are
//! bounded, or continue on the next page.

use std::{collections::BTreeSet, sync::Arc};

use group_service::{
    pb::{self, Decision},
    store::{Location, Settings},
};
use prost::Message;
use prost_reflect::{Kind, MessageDescriptor};
use tokio::task::JoinSet;

use crate::{
    access::allow,
    group::{create, update},
    harness::{TestServer, expect_error, raw::methods},
    member::{assign, assign_all, unassign, users_in},
    role::delete,
};

const MAX_PAGE_BYTES: usize = 3 << 20;
/// A character of four bytes in UTF-8: the longest names have 255 of them.
const LONG: char = '𝕏';
/// The number of concurrent calls that create test data.
const CONCURRENCY: usize = 32;

/// A name of 255 characters with the maximum number of bytes; names sort by number.
fn long(number: usize) -> String {
    format!("{number:05}") + &LONG.to_string().repeat(250)
}

/// Runs a task for each number concurrently; returns the results in order.
async fn run_concurrently<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    count: usize,
    one: impl Fn(usize) -> F + Send + Sync + 'static,
) -> Vec<T> {
    let one = Arc::new(one);
    let mut tasks = JoinSet::new();
    for first in 0..CONCURRENCY {
        let one = one.clone();
        tasks.spawn(async move {
            let mut done = Vec::new();
            for number in (first..count).step_by(CONCURRENCY) {
                done.push((number, one(number).await));
            }
            done
        });
    }
    let mut done: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, one)| one).collect()
}

/// Checks the size of a response, and returns it.
fn assert_fits<M: Message>(answer: Result<tonic::Response<M>, tonic::Status>) -> M {
    let answer = answer.expect("within 4 MiB").into_inner();
    assert!(
        answer.encoded_len() <= MAX_PAGE_BYTES,
        "{}",
        answer.encoded_len()
    );
    answer
}

/// Reads all pages of a list, and checks the size of each.
macro_rules! pages {
    ($client:expr, $rpc:ident, $request:expr) => {{
        let (mut client, mut request) = ($client.clone(), $request);
        let mut pages = Vec::new();
        loop {
            let page = assert_fits(client.$rpc(request.clone()).await);
            request.page_token.clone_from(&page.next_page_token);
            pages.push(page);
            if request.page_token.is_empty() {
                break pages;
            }
        }
    }};
}

fn thousand_rules() -> Vec<pb::Rule> {
    let word = |length: usize, number: usize| format!("{number:0length$}");
    let rules = (0..1000).map(|number| allow(&word(60, number), &word(60, 1), &word(45, 1)));
    rules.collect()
}

async fn create_role(w: &TestServer, name: String, rules: Vec<pb::Rule>) -> String {
    let request = pb::CreateRoleRequest {
        name,
        description: LONG.to_string().repeat(1000),
        rules,
        ..Default::default()
    };
    let created = w.roles.clone().create_role(request).await;
    created
        .expect("created")
        .into_inner()
        .role
        .expect("a role")
        .id
}

/// The role ids of a page, each with the ids of its groups.
fn role_and_group_ids(page: &pb::ListRolesOfUserResponse) -> Vec<(String, Vec<String>)> {
    let roles = page.roles.iter().map(|of_user| {
        let role = of_user.role.clone().expect("a role").id;
        let groups = of_user.groups.iter().map(|group| group.id.clone());
        (role, groups.collect())
    });
    roles.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn role_with_many_groups_continues_on_next_page() {
    const GROUPS: usize = 2600;
    let w = TestServer::start().await;
    let uncached = Settings {
        cache_bytes: 0,
        ..Settings::new(Location::parse(w.database.url()).expect("a URL"))
    };
    let uncached = TestServer::with(w.database.clone(), uncached).await;
    let many = create_role(&w, "A, of many groups".into(), thousand_rules()).await;
    let few = create_role(&w, "B, of two".into(), Vec::new()).await;
    let most = create_role(&w, "C, of all but 101".into(), Vec::new()).await;
    let (user, other) = (w.user("ann").await.id, w.user("bob").await.id);
    let groups = run_concurrently(GROUPS, {
        let (groups, user, role) = (w.groups.clone(), user.clone(), many.clone());
        let (few, most) = (few.clone(), most.clone());
        move |number| {
            let (mut groups, user) = (groups.clone(), user.clone());
            let mut roles = vec![&*role];
            if number < 2 {
                roles.push(&few);
            }
            if number >= 101 {
                roles.push(&most);
            }
            let request = create(&long(number), &roles);
            async move {
                let created = groups.create_group(request).await.expect("created");
                let id = created.into_inner().group.expect("a group").id;
                groups
                    .assign_user(assign(&id, &user))
                    .await
                    .expect("assigned");
                id
            }
        }
    })
    .await;
    let list = |page_size| pb::ListRolesOfUserRequest {
        user_id: user.clone(),
        page_size,
        ..Default::default()
    };
    let (begun, rest) = groups.split_at(2500);
    let first = vec![(many.clone(), begun.to_vec())];
    let continued = (many.clone(), rest.to_vec());
    let second = (few.clone(), groups[..2].to_vec());
    // Too many groups for the current page, but not for a page of their own.
    let last = vec![(most.clone(), groups[101..].to_vec())];
    for page_size in [1, 2, 1000] {
        let expected = match page_size {
            1 => vec![
                first.clone(),
                vec![continued.clone()],
                vec![second.clone()],
                last.clone(),
            ],
            _ => vec![
                first.clone(),
                vec![continued.clone(), second.clone()],
                last.clone(),
            ],
        };
        for (what, test_server) in [("from memory", &w), ("from the database", &uncached)] {
            let pages = pages!(test_server.users, list_roles_of_user, list(page_size));
            let reported: Vec<_> = pages.iter().map(role_and_group_ids).collect();
            assert!(reported == expected, "{what}, pages of {page_size}");
            // Both pages contain the same role.
            assert_eq!(pages[0].roles[0].role, pages[1].roles[0].role);
        }
    }

    // A page token that points into a role's groups is only valid for this list.
    let token = assert_fits(w.users.clone().list_roles_of_user(list(1)).await).next_page_token;
    let with = |page_token: &str| pb::ListRolesOfUserRequest {
        page_token: page_token.to_owned(),
        ..list(1)
    };
    let other_letter = if token.starts_with('A') { "B" } else { "A" };
    let altered = format!("{other_letter}{}", &token[1..]);
    let foreign = pb::ListRolesOfUserRequest {
        user_id: other,
        ..with(&token)
    };
    for request in [with(&altered), with(&token[1..]), foreign] {
        let refused = expect_error(w.users.clone().list_roles_of_user(request).await);
        assert_eq!(refused.fields(), ["page_token"]);
    }

    // Groups of earlier pages aren't repeated, and groups removed in the meantime are skipped.
    for group in rest {
        let request = unassign(group, &user);
        w.groups
            .clone()
            .unassign_user(request)
            .await
            .expect("unassigned");
    }
    for test_server in [&w, &uncached] {
        let request = pb::ListRolesOfUserRequest {
            min_revision: w.db.revision().number(),
            ..with(&token)
        };
        let next = assert_fits(test_server.users.clone().list_roles_of_user(request).await);
        assert_eq!(role_and_group_ids(&next), std::slice::from_ref(&second));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn group_has_at_most_1000_roles_and_pages_fit() {
    let w = Arc::new(TestServer::start().await);
    let roles = run_concurrently(1001, {
        let w = w.clone();
        move |number| {
            let w = w.clone();
            async move { create_role(&w, long(number), Vec::new()).await }
        }
    })
    .await;
    let first: Vec<_> = roles[..100].iter().map(String::as_str).collect();
    let group = w.group("Everything", &first).await.id;
    let mut groups = w.groups.clone();
    for batch in roles[100..1000].chunks(100) {
        let request = pb::UpdateGroupRequest {
            add_role_ids: batch.to_vec(),
            ..update(&group)
        };
        assert_fits(groups.update_group(request).await);
    }
    let get = pb::GetGroupRequest {
        group_id: group.clone(),
        ..Default::default()
    };
    let full = assert_fits(groups.get_group(get).await)
        .group
        .expect("a group");
    assert_eq!(full.roles.len(), 1000);
    let one_more = pb::UpdateGroupRequest {
        add_role_ids: vec![roles[1000].clone()],
        ..update(&group)
    };
    let refused = expect_error(groups.update_group(one_more.clone()).await);
    assert_eq!(refused.code, tonic::Code::InvalidArgument);
    assert_eq!(refused.fields(), ["add_role_ids"]);
    assert_eq!(w.get_group(&group).await, full);
    let instead = pb::UpdateGroupRequest {
        remove_role_ids: vec![roles[0].clone()],
        ..one_more
    };
    let updated = assert_fits(groups.update_group(instead).await).group;
    assert_eq!(updated.expect("a group").roles.len(), 1000);

    let list = pb::ListGroupsRequest::default();
    assert_eq!(pages!(w.groups, list_groups, list).len(), 1);
    let list = pb::ListRolesRequest {
        page_size: 1000,
        ..Default::default()
    };
    let pages = pages!(w.roles, list_roles, list);
    let listed = pages.iter().flat_map(|page| &page.roles);
    assert!(listed.map(|role| &role.id).eq(&roles));
    let list = pb::ListRolesInGroupRequest {
        group_id: group,
        page_size: 1000,
        ..Default::default()
    };
    let pages = pages!(w.groups, list_roles_in_group, list);
    let listed = pages.iter().flat_map(|page| &page.roles);
    assert!(listed.map(|role| &role.id).eq(&roles[1..]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_and_decisions_fit_into_responses() {
    let w = TestServer::start().await;
    let request = pb::CreateRoleRequest {
        name: long(0),
        rules: vec![allow("*", "*", "*")],
        ..Default::default()
    };
    let role = w.roles.clone().create_role(request).await.expect("created");
    let role = role.into_inner().role.expect("a role").id;
    let group = w.group(&long(0), &[&role]).await.id;
    let users = run_concurrently(1000, {
        let users = w.users.clone();
        move |number| {
            let mut users = users.clone();
            async move {
                let request = pb::CreateUserRequest {
                    username: long(number),
                    first_name: long(number),
                    last_name: long(number),
                    ..Default::default()
                };
                let created = users.create_user(request).await.expect("created");
                created.into_inner().user.expect("a user").id
            }
        }
    })
    .await;
    let request = assign_all(&group, &users);
    w.groups
        .clone()
        .batch_assign_users(request)
        .await
        .expect("assigned");

    let list = pb::ListUsersRequest {
        page_size: 1000,
        ..Default::default()
    };
    let pages = pages!(w.users, list_users, list);
    let listed = pages.iter().flat_map(|page| &page.users);
    assert!(listed.map(|user| &user.id).eq(&users));
    let list = pb::ListUsersInGroupRequest {
        page_size: 1000,
        ..users_in(&group)
    };
    let pages = pages!(w.groups, list_users_in_group, list);
    let listed = pages.iter().flat_map(|page| &page.users);
    assert!(listed.map(|user| &user.id).eq(&users));
    let (long, short) = ("a".repeat(60), "a".repeat(45));
    let list = pb::ListUsersWithAccessRequest {
        bundle: long.clone(),
        controller: long.clone(),
        action: short.clone(),
        page_size: 1000,
        ..Default::default()
    };
    let pages = pages!(w.access, list_users_with_access, list);
    let listed = pages.iter().flat_map(|page| &page.users);
    let listed = listed.map(|user| user.user.clone().expect("a user").id);
    assert!(listed.eq(users.iter().cloned()));

    let batch = |question: fn(pb::Question) -> pb::Question| pb::BatchCheckAccessRequest {
        questions: users
            .iter()
            .map(|user| {
                question(pb::Question {
                    user_id: user.clone(),
                    bundle: long.clone(),
                    controller: long.clone(),
                    action: short.clone(),
                })
            })
            .collect(),
        ..Default::default()
    };
    let mut access = w.access.clone();
    let decided = assert_fits(access.batch_check_access(batch(|question| question)).await).answers;
    assert_eq!(decided.len(), 1000);
    assert!(
        decided
            .iter()
            .all(|answer| answer.decision() == Decision::Allowed)
    );
    // Each question is invalid in every field, with a thousand characters.
    let wrong = batch(|_| {
        let text = "X".repeat(1000);
        pb::Question {
            user_id: text.clone(),
            bundle: text.clone(),
            controller: text.clone(),
            action: text,
        }
    });
    let refused = assert_fits(access.batch_check_access(wrong).await).answers;
    assert_eq!(refused.len(), 1000);
    assert!(refused.iter().all(|answer| answer.error.is_some()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn largest_changes_fit_into_pages_and_watch_messages() {
    const CHANGES: usize = 400;
    let w = TestServer::start().await;
    let role = create_role(&w, long(0), thousand_rules()).await;
    for number in 0..CHANGES {
        let request = pb::UpdateRoleRequest {
            role_id: role.clone(),
            description: Some(format!("{number:04}") + &LONG.to_string().repeat(996)),
            request_id: crate::harness::unknown_id(),
            ..Default::default()
        };
        let mut request = tonic::Request::new(request);
        let actor = "x".repeat(255).parse().expect("ASCII");
        request.metadata_mut().insert("x-actor", actor);
        w.roles.clone().update_role(request).await.expect("updated");
    }
    // The creation of the role, its description and its rules precede the other changes.
    let all = 1002 + CHANGES;
    let list = pb::ListChangesRequest {
        page_size: 1000,
        ..Default::default()
    };
    let pages = pages!(w.changes, list_changes, list);
    let listed: usize = pages.iter().map(|page| page.changes.len()).sum();
    assert_eq!(listed, all);
    let watch = pb::WatchChangesRequest {
        from_revision: 1,
        ..Default::default()
    };
    let feed = w.changes.clone().watch_changes(watch).await;
    let mut feed = feed.expect("followed").into_inner();
    let mut followed = 0;
    while followed < all {
        let batch = feed
            .message()
            .await
            .expect("within 4 MiB")
            .expect("goes on");
        assert!(
            batch.encoded_len() <= MAX_PAGE_BYTES,
            "{}",
            batch.encoded_len()
        );
        followed += batch.changes.len();
    }
    assert_eq!(followed, all);
}

#[tokio::test]
async fn role_in_use_details_fit_into_headers() {
    let w = TestServer::start().await;
    let role = w.role("A").await.id;
    for number in 0..12 {
        w.group(&long(number), &[&role]).await;
    }
    let refused = w.roles.clone().delete_role(delete(&role)).await;
    let refused = refused.expect_err("in use");
    // All clients accept 8 KiB of headers; this header is base64-encoded.
    assert!(
        refused.details().len() < 5000,
        "{}",
        refused.details().len()
    );
    assert_eq!(expect_error::<()>(Err(refused)).reason, "ROLE_IN_USE");
}

/// Every list in a response, and what bounds it.
const LISTS: [(&str, &str); 22] = [
    ("BatchCheckAccessResponse.answers", "1000 questions"),
    ("BatchCheckAccessResponse.answers.error.details", "two"),
    ("CreateGroupResponse.group.roles", "1000 roles"),
    ("CreateRoleResponse.role.rules", "1000 rules"),
    ("GetGroupResponse.group.roles", "1000 roles"),
    ("GetRoleResponse.role.rules", "1000 rules"),
    ("ListChangesResponse.changes", "pages"),
    ("ListGroupsResponse.groups", "pages"),
    ("ListGroupsResponse.groups.roles", "1000 roles"),
    ("ListRolesInGroupResponse.roles", "pages"),
    ("ListRolesInGroupResponse.roles.rules", "1000 rules"),
    ("ListRolesOfUserResponse.roles", "pages"),
    ("ListRolesOfUserResponse.roles.groups", "continued"),
    ("ListRolesOfUserResponse.roles.role.rules", "1000 rules"),
    ("ListRolesResponse.roles", "pages"),
    ("ListRolesResponse.roles.rules", "1000 rules"),
    ("ListUsersInGroupResponse.users", "pages"),
    ("ListUsersResponse.users", "pages"),
    ("ListUsersWithAccessResponse.users", "pages"),
    ("UpdateGroupResponse.group.roles", "1000 roles"),
    ("UpdateRoleResponse.role.rules", "1000 rules"),
    ("WatchChangesResponse.changes", "250 changes"),
];

#[test]
fn every_response_list_has_a_size_test() {
    let mut lists = BTreeSet::new();
    for method in methods() {
        let output = method.output();
        add_lists(&output, output.name(), &mut lists);
    }
    let known: Vec<_> = LISTS.iter().map(|(list, _)| *list).collect();
    let lists: Vec<_> = lists.iter().map(String::as_str).collect();
    assert_eq!(
        lists, known,
        "what bounds a new list, and which test here shows it?"
    );
}

fn add_lists(message: &MessageDescriptor, path: &str, lists: &mut BTreeSet<String>) {
    for field in message.fields() {
        let path = format!("{path}.{}", field.name());
        if field.is_list() {
            lists.insert(path.clone());
        }
        if let Kind::Message(kind) = field.kind() {
            add_lists(&kind, &path, lists);
        }
    }
}
