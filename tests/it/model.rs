//! Random sequences of operations have the same results as a simple in-memory model.

use std::collections::{BTreeMap, BTreeSet};

use group_service::pb;
use proptest::{prelude::*, test_runner::Config};

use crate::{
    group::update,
    harness::{TestServer, expect_error},
    member::{assign, unassign, users_in},
};

/// Resources are identified by small numbers, so that operations refer to the same ones.
type Key = u8;

#[derive(Clone, Debug)]
enum Op {
    CreateRole(Key),
    DeleteRole(Key),
    CreateUser(Key),
    DeleteUser(Key),
    CreateGroup(Key, BTreeSet<Key>),
    UpdateGroup {
        group: Key,
        title: Option<Key>,
        add: BTreeSet<Key>,
        remove: BTreeSet<Key>,
    },
    DeleteGroup(Key),
    Assign(Key, Key),
    Unassign(Key, Key),
}

fn op() -> impl Strategy<Value = Op> {
    let key = || 0..4_u8;
    let keys = || proptest::collection::btree_set(key(), 0..3);
    prop_oneof![
        3 => key().prop_map(Op::CreateRole),
        1 => key().prop_map(Op::DeleteRole),
        2 => key().prop_map(Op::CreateUser),
        1 => key().prop_map(Op::DeleteUser),
        4 => (key(), keys()).prop_map(|(title, roles)| Op::CreateGroup(title, roles)),
        4 => (key(), proptest::option::of(key()), keys(), keys())
            .prop_map(|(group, title, add, remove)| Op::UpdateGroup { group, title, add, remove }),
        1 => key().prop_map(Op::DeleteGroup),
        3 => (key(), key()).prop_map(|(group, user)| Op::Assign(group, user)),
        2 => (key(), key()).prop_map(|(group, user)| Op::Unassign(group, user)),
    ]
}

/// The model: roles and users by number, and groups by number with title, roles and users.
#[derive(Debug, Default)]
struct Model {
    roles: BTreeSet<Key>,
    users: BTreeSet<Key>,
    groups: BTreeMap<Key, Group>,
}

#[derive(Clone, Debug, Default)]
struct Group {
    title: Key,
    roles: BTreeSet<Key>,
    users: BTreeSet<Key>,
}

impl Model {
    /// Applies an operation; returns its outcome as a reason of the contract.
    fn apply(&mut self, op: &Op) -> &'static str {
        match op {
            Op::CreateRole(role) if self.roles.insert(*role) => "OK",
            Op::CreateRole(_) => "ROLE_NAME_TAKEN",
            Op::DeleteRole(role) if self.groups.values().any(|g| g.roles.contains(role)) => {
                "ROLE_IN_USE"
            }
            Op::DeleteRole(role) if self.roles.remove(role) => "OK",
            Op::DeleteRole(_) => "ROLE_NOT_FOUND",
            Op::CreateUser(user) if self.users.insert(*user) => "OK",
            Op::CreateUser(_) => "USERNAME_TAKEN",
            Op::DeleteUser(user) if self.users.remove(user) => {
                for group in self.groups.values_mut() {
                    group.users.remove(user);
                }
                "OK"
            }
            Op::DeleteUser(_) => "USER_NOT_FOUND",
            Op::CreateGroup(title, roles) => {
                if roles.is_empty() {
                    return "INVALID_REQUEST";
                }
                // A group's number is derived from its original title, and may be in use by a renamed group: see
                // `free_key`.
                if self.title_taken(*title, None) {
                    return "GROUP_TITLE_TAKEN";
                }
                if !roles.is_subset(&self.roles) {
                    return "ROLE_NOT_FOUND";
                }
                let group = Group {
                    title: *title,
                    roles: roles.clone(),
                    ..Group::default()
                };
                self.groups.insert(self.free_key(*title), group);
                "OK"
            }
            Op::UpdateGroup {
                group,
                title,
                add,
                remove,
            } => {
                if !add.is_disjoint(remove) {
                    return "INVALID_REQUEST";
                }
                let Some(before) = self.groups.get(group) else {
                    return "GROUP_NOT_FOUND";
                };
                let mut after = before.clone();
                let new: BTreeSet<_> = add.difference(&before.roles).copied().collect();
                if !new.is_subset(&self.roles) {
                    return "ROLE_NOT_FOUND";
                }
                after.roles.extend(&new);
                after.roles.retain(|role| !remove.contains(role));
                let taken = title.is_some_and(|title| self.title_taken(title, Some(*group)));
                match (after.roles.is_empty(), taken) {
                    // If both apply, the service may return either.
                    (true, true) => return "GROUP_NEEDS_ROLE|GROUP_TITLE_TAKEN",
                    (true, false) => return "GROUP_NEEDS_ROLE",
                    (false, true) => return "GROUP_TITLE_TAKEN",
                    (false, false) => {}
                }
                after.title = title.unwrap_or(before.title);
                self.groups.insert(*group, after);
                "OK"
            }
            Op::DeleteGroup(group) if self.groups.remove(group).is_some() => "OK",
            Op::DeleteGroup(_) => "GROUP_NOT_FOUND",
            Op::Assign(group, user) => {
                let Some(group) = self.groups.get_mut(group) else {
                    return "GROUP_NOT_FOUND";
                };
                if !self.users.contains(user) {
                    return "USER_NOT_FOUND";
                }
                group.users.insert(*user);
                "OK"
            }
            Op::Unassign(group, user) => {
                let Some(group) = self.groups.get_mut(group) else {
                    return "GROUP_NOT_FOUND";
                };
                if group.users.remove(user) {
                    "OK"
                } else {
                    "USER_NOT_IN_GROUP"
                }
            }
        }
    }

    fn title_taken(&self, title: Key, but: Option<Key>) -> bool {
        self.groups
            .iter()
            .any(|(key, group)| Some(*key) != but && group.title == title)
    }

    /// The number of a new group with this title: that of the title, or the next free one.
    fn free_key(&self, title: Key) -> Key {
        (title..)
            .find(|key| !self.groups.contains_key(key))
            .expect("fewer than 256 groups")
    }
}

/// The service, and the ids of the model's numbers.
struct Real {
    test_server: TestServer,
    roles: BTreeMap<Key, String>,
    users: BTreeMap<Key, String>,
    groups: BTreeMap<Key, String>,
    /// Ids that don't exist, by number.
    absent: Vec<String>,
}

impl Real {
    async fn apply(&mut self, op: &Op, free_key: Key) -> String {
        let absent = &self.absent;
        let name = |ids: &BTreeMap<Key, String>, key: &Key| {
            ids.get(key).unwrap_or(&absent[usize::from(*key)]).clone()
        };
        let roles = |keys: &BTreeSet<Key>| {
            keys.iter()
                .map(|key| name(&self.roles, key))
                .collect::<Vec<_>>()
        };
        let w = &mut self.test_server;
        let result = match op {
            Op::CreateRole(key) => {
                let request = pb::CreateRoleRequest {
                    name: format!("Role {key}"),
                    ..Default::default()
                };
                let result = w.roles.create_role(request).await;
                result.map(|r| {
                    drop(
                        self.roles
                            .insert(*key, r.into_inner().role.expect("a role").id),
                    )
                })
            }
            Op::DeleteRole(key) => {
                let request = crate::role::delete(&name(&self.roles, key));
                w.roles
                    .delete_role(request)
                    .await
                    .map(|_| drop(self.roles.remove(key)))
            }
            Op::CreateUser(key) => {
                let request = pb::CreateUserRequest {
                    username: format!("User {key}"),
                    ..Default::default()
                };
                let result = w.users.create_user(request).await;
                result.map(|r| {
                    drop(
                        self.users
                            .insert(*key, r.into_inner().user.expect("a user").id),
                    )
                })
            }
            Op::DeleteUser(key) => {
                let request = crate::user::delete(&name(&self.users, key));
                w.users
                    .delete_user(request)
                    .await
                    .map(|_| drop(self.users.remove(key)))
            }
            Op::CreateGroup(title, keys) => {
                let request = pb::CreateGroupRequest {
                    title: format!("Group {title}"),
                    role_ids: roles(keys),
                    ..Default::default()
                };
                let result = w.groups.create_group(request).await;
                result.map(|r| {
                    drop(
                        self.groups
                            .insert(free_key, r.into_inner().group.expect("a group").id),
                    )
                })
            }
            Op::UpdateGroup {
                group,
                title,
                add,
                remove,
            } => {
                let request = pb::UpdateGroupRequest {
                    title: title.map(|title| format!("Group {title}")),
                    add_role_ids: roles(add),
                    remove_role_ids: roles(remove),
                    ..update(&name(&self.groups, group))
                };
                w.groups.update_group(request).await.map(drop)
            }
            Op::DeleteGroup(key) => {
                let request = crate::group::delete(&name(&self.groups, key));
                w.groups
                    .delete_group(request)
                    .await
                    .map(|_| drop(self.groups.remove(key)))
            }
            Op::Assign(group, user) => {
                let request = assign(&name(&self.groups, group), &name(&self.users, user));
                w.groups.assign_user(request).await.map(drop)
            }
            Op::Unassign(group, user) => {
                let request = unassign(&name(&self.groups, group), &name(&self.users, user));
                w.groups.unassign_user(request).await.map(drop)
            }
        };
        match result {
            Ok(()) => "OK".to_owned(),
            Err(status) => expect_error::<()>(Err(status)).reason,
        }
    }

    /// Dumps the service's state, one line per resource.
    async fn dump(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        let w = &mut self.test_server;
        let roles = w
            .roles
            .list_roles(pb::ListRolesRequest::default())
            .await
            .expect("listed");
        for role in roles.into_inner().roles {
            lines.push(format!("{} in {}", role.name, role.group_count));
        }
        let users = w
            .users
            .list_users(pb::ListUsersRequest::default())
            .await
            .expect("listed");
        lines.extend(
            users
                .into_inner()
                .users
                .into_iter()
                .map(|user| user.username),
        );
        let groups = w
            .groups
            .list_groups(pb::ListGroupsRequest::default())
            .await
            .expect("listed");
        for group in groups.into_inner().groups {
            assert_eq!(w.get_group(&group.id).await, group);
            let users = w
                .groups
                .list_users_in_group(users_in(&group.id))
                .await
                .expect("listed");
            let users: Vec<_> = users
                .into_inner()
                .users
                .into_iter()
                .map(|user| user.username)
                .collect();
            assert_eq!(users.len() as i64, group.user_count);
            let roles: Vec<_> = group.roles.into_iter().map(|role| role.name).collect();
            lines.push(format!(
                "{}: {} | {}",
                group.title,
                roles.join(", "),
                users.join(", ")
            ));
        }
        lines
    }
}

impl Model {
    fn dump(&self) -> Vec<String> {
        let names = |kind: &str, keys: &BTreeSet<Key>| {
            keys.iter()
                .map(|key| format!("{kind} {key}"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut lines = Vec::new();
        for role in &self.roles {
            let count = self
                .groups
                .values()
                .filter(|group| group.roles.contains(role))
                .count();
            lines.push(format!("Role {role} in {count}"));
        }
        lines.extend(self.users.iter().map(|user| format!("User {user}")));
        let mut groups: Vec<_> = self.groups.values().collect();
        groups.sort_by_key(|group| group.title);
        for group in groups {
            let (roles, users) = (names("Role", &group.roles), names("User", &group.users));
            lines.push(format!("Group {}: {roles} | {users}", group.title));
        }
        lines
    }
}

#[test]
fn random_operations_match_reference_model() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let config = Config {
        cases: 60,
        failure_persistence: None,
        ..Config::default()
    };
    proptest!(config, |(ops in proptest::collection::vec(op(), 1..=30))| {
        runtime.block_on(async {
            let mut model = Model::default();
            let mut real = Real {
                test_server: TestServer::start().await,
                roles: BTreeMap::new(),
                users: BTreeMap::new(),
                groups: BTreeMap::new(),
                absent: (0..=u8::MAX).map(|_| crate::harness::unknown_id()).collect(),
            };
            for op in &ops {
                let free_key = match op {
                    Op::CreateGroup(title, _) => model.free_key(*title),
                    _ => 0,
                };
                let expected = model.apply(op);
                let got = real.apply(op, free_key).await;
                assert!(expected.split('|').any(|reason| reason == got), "{op:?}: {got}, not {expected}");
            }
            assert_eq!(real.dump().await, model.dump());
        });
    });
}
