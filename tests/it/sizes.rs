//! No answer is larger than 3 MiB, whatever the data: gRPC clients take 4 MiB. Lists in rows are bounded, or go on on
//! the next page.

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
    harness::{World, raw::methods, told},
    member::{assign, assign_all, unassign, users_in},
    role::delete,
};

const MOST: usize = 3 << 20;
/// The longest names in bytes have 255 characters of four.
const LONG: char = '𝕏';
/// How many calls are made at once to set the stage.
const AT_ONCE: usize = 32;

/// A name of 255 characters and as many bytes as there can be; sorted by its number.
fn long(number: usize) -> String {
    format!("{number:05}") + &LONG.to_string().repeat(250)
}

/// Does something for each number, and gives what came of it in order.
async fn each<T: Send + 'static, F: Future<Output = T> + Send + 'static>(
    count: usize,
    one: impl Fn(usize) -> F + Send + Sync + 'static,
) -> Vec<T> {
    let one = Arc::new(one);
    let mut tasks = JoinSet::new();
    for first in 0..AT_ONCE {
        let one = one.clone();
        tasks.spawn(async move {
            let mut done = Vec::new();
            for number in (first..count).step_by(AT_ONCE) {
                done.push((number, one(number).await));
            }
            done
        });
    }
    let mut done: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, one)| one).collect()
}

/// Checks the size of an answer.
fn fits<M: Message>(answer: Result<tonic::Response<M>, tonic::Status>) -> M {
    let answer = answer.expect("within 4 MiB").into_inner();
    assert!(answer.encoded_len() <= MOST, "{}", answer.encoded_len());
    answer
}

/// All pages of a list, each of which fits.
macro_rules! pages {
    ($client:expr, $rpc:ident, $request:expr) => {{
        let (mut client, mut request) = ($client.clone(), $request);
        let mut pages = Vec::new();
        loop {
            let page = fits(client.$rpc(request.clone()).await);
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

async fn create_role(w: &World, name: String, rules: Vec<pb::Rule>) -> String {
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

/// What a page says of roles: the id, and the ids of its groups.
fn told_roles(page: &pb::ListRolesOfUserResponse) -> Vec<(String, Vec<String>)> {
    let roles = page.roles.iter().map(|of_user| {
        let role = of_user.role.clone().expect("a role").id;
        let groups = of_user.groups.iter().map(|group| group.id.clone());
        (role, groups.collect())
    });
    roles.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_of_many_groups_is_continued_on_the_next_page() {
    const GROUPS: usize = 2600;
    let w = World::start().await;
    let uncached = Settings {
        cache_bytes: 0,
        ..Settings::new(Location::parse(w.database.url()).expect("a URL"))
    };
    let uncached = World::with(w.database.clone(), uncached).await;
    let many = create_role(&w, "A, of many groups".into(), thousand_rules()).await;
    let few = create_role(&w, "B, of two".into(), Vec::new()).await;
    let most = create_role(&w, "C, of all but 101".into(), Vec::new()).await;
    let (user, other) = (w.user("ann").await.id, w.user("bob").await.id);
    let groups = each(GROUPS, {
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
    // Too many beside the others, but not for a page of its own.
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
        for (what, world) in [("from memory", &w), ("from the database", &uncached)] {
            let pages = pages!(world.users, list_roles_of_user, list(page_size));
            let told: Vec<_> = pages.iter().map(told_roles).collect();
            assert!(told == expected, "{what}, pages of {page_size}");
            // The role is the same each time.
            assert_eq!(pages[0].roles[0].role, pages[1].roles[0].role);
        }
    }

    // A place within a role's groups is of this list only.
    let token = fits(w.users.clone().list_roles_of_user(list(1)).await).next_page_token;
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
        let refused = told(w.users.clone().list_roles_of_user(request).await);
        assert_eq!(refused.fields(), ["page_token"]);
    }

    // What has been named is not named again, and what has gone meanwhile is not waited for.
    for group in rest {
        let request = unassign(group, &user);
        w.groups
            .clone()
            .unassign_user(request)
            .await
            .expect("unassigned");
    }
    for world in [&w, &uncached] {
        let request = pb::ListRolesOfUserRequest {
            min_revision: w.db.revision().number(),
            ..with(&token)
        };
        let next = fits(world.users.clone().list_roles_of_user(request).await);
        assert_eq!(told_roles(&next), std::slice::from_ref(&second));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_has_1000_roles_at_most_and_roles_fit_into_pages() {
    let w = Arc::new(World::start().await);
    let roles = each(1001, {
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
        fits(groups.update_group(request).await);
    }
    let get = pb::GetGroupRequest {
        group_id: group.clone(),
        ..Default::default()
    };
    let full = fits(groups.get_group(get).await).group.expect("a group");
    assert_eq!(full.roles.len(), 1000);
    let one_more = pb::UpdateGroupRequest {
        add_role_ids: vec![roles[1000].clone()],
        ..update(&group)
    };
    let refused = told(groups.update_group(one_more.clone()).await);
    assert_eq!(refused.code, tonic::Code::InvalidArgument);
    assert_eq!(refused.fields(), ["add_role_ids"]);
    assert_eq!(w.get_group(&group).await, full);
    let instead = pb::UpdateGroupRequest {
        remove_role_ids: vec![roles[0].clone()],
        ..one_more
    };
    let updated = fits(groups.update_group(instead).await).group;
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
async fn users_and_decisions_about_them_fit_into_answers() {
    let w = World::start().await;
    let request = pb::CreateRoleRequest {
        name: long(0),
        rules: vec![allow("*", "*", "*")],
        ..Default::default()
    };
    let role = w.roles.clone().create_role(request).await.expect("created");
    let role = role.into_inner().role.expect("a role").id;
    let group = w.group(&long(0), &[&role]).await.id;
    let users = each(1000, {
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
    let decided = fits(access.batch_check_access(batch(|question| question)).await).answers;
    assert_eq!(decided.len(), 1000);
    assert!(
        decided
            .iter()
            .all(|answer| answer.decision() == Decision::Allowed)
    );
    // Each wrong in every field, in a thousand characters.
    let wrong = batch(|_| {
        let text = "X".repeat(1000);
        pb::Question {
            user_id: text.clone(),
            bundle: text.clone(),
            controller: text.clone(),
            action: text,
        }
    });
    let refused = fits(access.batch_check_access(wrong).await).answers;
    assert_eq!(refused.len(), 1000);
    assert!(refused.iter().all(|answer| answer.error.is_some()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_largest_changes_fit_into_pages_and_the_feed() {
    const CHANGES: usize = 400;
    let w = World::start().await;
    let role = create_role(&w, long(0), thousand_rules()).await;
    for number in 0..CHANGES {
        let request = pb::UpdateRoleRequest {
            role_id: role.clone(),
            description: Some(format!("{number:04}") + &LONG.to_string().repeat(996)),
            request_id: crate::harness::id(),
            ..Default::default()
        };
        let mut request = tonic::Request::new(request);
        let actor = "x".repeat(255).parse().expect("ASCII");
        request.metadata_mut().insert("x-actor", actor);
        w.roles.clone().update_role(request).await.expect("updated");
    }
    // The role, its description and its rules come first.
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
        assert!(batch.encoded_len() <= MOST, "{}", batch.encoded_len());
        followed += batch.changes.len();
    }
    assert_eq!(followed, all);
}

#[tokio::test]
async fn a_role_in_use_names_its_groups_within_a_header() {
    let w = World::start().await;
    let role = w.role("A").await.id;
    for number in 0..12 {
        w.group(&long(number), &[&role]).await;
    }
    let refused = w.roles.clone().delete_role(delete(&role)).await;
    let refused = refused.expect_err("in use");
    // Clients take 8 KiB of headers at least; this one is in base64.
    assert!(
        refused.details().len() < 5000,
        "{}",
        refused.details().len()
    );
    assert_eq!(told::<()>(Err(refused)).reason, "ROLE_IN_USE");
}

/// Every list in an answer, and what keeps the answer small.
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
fn every_list_in_an_answer_is_known() {
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
