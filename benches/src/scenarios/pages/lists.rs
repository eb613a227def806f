//! All lists of the API.

use std::rc::Rc;

use crate::channel::Channel;
use group_service::{
    domain::{ListChanges, ListGroups, ListRoles, ListUsers},
    pb::{
        self, access_service_client::AccessServiceClient,
        change_service_client::ChangeServiceClient, group_service_client::GroupServiceClient,
        role_service_client::RoleServiceClient, user_service_client::UserServiceClient,
    },
};

use super::list::{Fetch, List, ListPosition, Page, PageQuery, ScopeOf};
use crate::directory::{Directory, LARGEST_GROUP, ROLE_IN_EVERY_GROUP, rule};

/// A list by its client, its method, the rows of its response, and the request without the paging fields.
macro_rules! fetch {
    ($channel:expr, $client:ident.$method:ident, $rows:ident, |$ask:ident| $request:expr, |$row:ident| $place:expr) => {{
        let client = $client::new($channel.clone());
        let fetch: Fetch = Rc::new(move |$ask: PageQuery| {
            let (mut client, request) = (client.clone(), $request);
            Box::pin(async move {
                let page = client.$method(request).await.expect("listed").into_inner();
                let rows = page.$rows.len();
                let last = page.$rows.into_iter().next_back().map(|$row| $place);
                Page {
                    rows,
                    next: page.next_page_token,
                    last,
                }
            })
        });
        fetch
    }};
}

/// The scope of page tokens, obtained by converting the request.
macro_rules! scope {
    ($command:ident, |$ask:ident| $request:expr) => {{
        let scope: ScopeOf =
            Rc::new(move |$ask: PageQuery| $command::try_from($request).expect("valid").page.scope);
        scope
    }};
}

/// Every list of the directory.
pub(super) fn all(directory: &Directory, channel: &Channel) -> Vec<List> {
    let mut lists = Vec::new();
    of_groups(&mut lists, directory, channel);
    of_roles(&mut lists, channel);
    of_users(&mut lists, channel);
    of_changes(&mut lists, directory, channel);
    in_one_order(&mut lists, directory, channel);
    lists
}

fn ordered(lists: &mut Vec<List>, name: &str, orders: &[&str], fetch: &Fetch, scope: &ScopeOf) {
    for order in orders {
        let descending = format!("{order} desc");
        for (order, reverse) in [(*order, &*descending), (&*descending, *order)] {
            lists.push(List {
                name: format!("{name} by {order}"),
                fetch: fetch.clone(),
                order: order.to_owned(),
                reverse: Some((reverse.to_owned(), scope.clone())),
            });
        }
    }
}

fn of_groups(lists: &mut Vec<List>, directory: &Directory, channel: &Channel) {
    let everywhere = directory.user(ROLE_IN_EVERY_GROUP);
    let filters = [
        ("ListGroups", "", ""),
        ("ListGroups of a user in a tenth of all", "", &*everywhere),
        ("ListGroups, searched,", "berlin", ""),
    ];
    for (name, query, user) in filters {
        let (query, user_id) = (query.to_owned(), user.to_owned());
        let request = move |ask: PageQuery| pb::ListGroupsRequest {
            page_size: ask.rows as i32,
            page_token: ask.token,
            order_by: ask.order,
            query: query.clone(),
            user_id: user_id.clone(),
            ..Default::default()
        };
        let scoped = request.clone();
        let scope = scope!(ListGroups, |ask| scoped(ask));
        let fetch = fetch!(
            channel,
            GroupServiceClient.list_groups,
            groups,
            |ask| request(ask),
            |row| { place(row.id, row.title, row.create_time) }
        );
        ordered(lists, name, &["title", "create_time"], &fetch, &scope);
    }
}

fn of_roles(lists: &mut Vec<List>, channel: &Channel) {
    let request = |ask: PageQuery| pb::ListRolesRequest {
        page_size: ask.rows as i32,
        page_token: ask.token,
        order_by: ask.order,
        ..Default::default()
    };
    let scope = scope!(ListRoles, |ask| request(ask));
    let fetch = fetch!(
        channel,
        RoleServiceClient.list_roles,
        roles,
        |ask| request(ask),
        |row| { place(row.id, row.name, row.create_time) }
    );
    ordered(lists, "ListRoles", &["name", "create_time"], &fetch, &scope);
}

fn of_users(lists: &mut Vec<List>, channel: &Channel) {
    let active = pb::UserStatus::Active.into();
    for (name, query, status) in [
        ("ListUsers", "", 0),
        ("ListUsers, active,", "", active),
        ("ListUsers, searched,", "kowalski", 0),
    ] {
        let query = query.to_owned();
        let request = move |ask: PageQuery| pb::ListUsersRequest {
            page_size: ask.rows as i32,
            page_token: ask.token,
            order_by: ask.order,
            query: query.clone(),
            status,
            ..Default::default()
        };
        let scoped = request.clone();
        let scope = scope!(ListUsers, |ask| scoped(ask));
        let fetch = fetch!(
            channel,
            UserServiceClient.list_users,
            users,
            |ask| request(ask),
            |row| { place(row.id, row.username, row.create_time) }
        );
        ordered(lists, name, &["username", "create_time"], &fetch, &scope);
    }
}

fn of_changes(lists: &mut Vec<List>, directory: &Directory, channel: &Channel) {
    for (name, group) in [
        ("ListChanges", String::new()),
        ("ListChanges of a group", directory.group(LARGEST_GROUP)),
    ] {
        let request = move |ask: PageQuery| pb::ListChangesRequest {
            page_size: ask.rows as i32,
            page_token: ask.token,
            order_by: ask.order,
            filter: Some(pb::ChangeFilter {
                group_id: group.clone(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let scoped = request.clone();
        let scope = scope!(ListChanges, |ask| scoped(ask));
        let fetch = fetch!(
            channel,
            ChangeServiceClient.list_changes,
            changes,
            |ask| request(ask),
            |row| ListPosition {
                change: (row.revision, row.index),
                ..place(String::new(), String::new(), None)
            }
        );
        ordered(lists, name, &["revision"], &fetch, &scope);
    }
}

fn place(id: String, name: String, created: Option<prost_types::Timestamp>) -> ListPosition {
    let micros =
        |time: prost_types::Timestamp| time.seconds * 1_000_000 + i64::from(time.nanos) / 1000;
    ListPosition {
        id,
        name,
        created: created.map_or(0, micros),
        change: (0, 0),
    }
}

fn in_one_order(lists: &mut Vec<List>, directory: &Directory, channel: &Channel) {
    let nowhere = || place(String::new(), String::new(), None);
    let (hub, everywhere) = (
        directory.group(LARGEST_GROUP),
        directory.user(ROLE_IN_EVERY_GROUP),
    );
    let users = fetch!(
        channel,
        GroupServiceClient.list_users_in_group,
        users,
        |ask| pb::ListUsersInGroupRequest {
            group_id: hub.clone(),
            page_size: ask.rows as i32,
            page_token: ask.token,
            ..Default::default()
        },
        |_row| nowhere()
    );
    let roles = fetch!(
        channel,
        UserServiceClient.list_roles_of_user,
        roles,
        |ask| pb::ListRolesOfUserRequest {
            user_id: everywhere.clone(),
            page_size: ask.rows as i32,
            page_token: ask.token,
            ..Default::default()
        },
        |_row| nowhere()
    );
    let [bundle, controller, action] = rule(directory.roles_of_group(LARGEST_GROUP)[0], 0);
    let access = fetch!(
        channel,
        AccessServiceClient.list_users_with_access,
        users,
        |ask| pb::ListUsersWithAccessRequest {
            bundle: bundle.clone(),
            controller: controller.clone(),
            action: action.clone(),
            page_size: ask.rows as i32,
            page_token: ask.token,
            ..Default::default()
        },
        |_row| nowhere()
    );
    for (name, fetch) in [
        ("ListUsersInGroup of a tenth of all", users),
        ("ListRolesOfUser of one in a tenth of all groups", roles),
        ("ListUsersWithAccess of a tenth of all", access),
    ] {
        lists.push(List {
            name: name.to_owned(),
            fetch,
            order: String::new(),
            reverse: None,
        });
    }
}
