//! Replaying the changes yields the directory, whatever fails meanwhile.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use group_service::pb::{
    self, ChangeKind, change_service_client::ChangeServiceClient,
    group_service_client::GroupServiceClient, role_service_client::RoleServiceClient,
    user_service_client::UserServiceClient, value::Value,
};
use tokio::{sync::watch, task::JoinSet};
use tonic::transport::Channel;

use crate::{
    access::allow,
    group::{create, delete, update},
    harness::{Database, Process, TestServer},
    member::{assign_all, unassign_all, users_in},
};

/// The state of a directory, built by replaying its changes or from its lists; as text, so that differences are
/// readable.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Directory {
    pub(crate) groups: BTreeMap<String, (String, BTreeSet<String>, BTreeSet<String>)>,
    pub(crate) roles: BTreeMap<String, (String, String, BTreeSet<String>)>,
    pub(crate) users: BTreeMap<String, (String, String, bool)>,
}

impl Directory {
    pub(crate) fn apply(&mut self, change: &pb::Change) {
        let id = |subject: &Option<pb::Subject>| subject.as_ref().expect("a subject").id.clone();
        let text = |value: &Option<pb::Value>| match value
            .as_ref()
            .and_then(|value| value.value.clone())
        {
            Some(Value::Name(text) | Value::Description(text)) => text,
            Some(Value::PersonName(name)) => format!("{} {}", name.first_name, name.last_name),
            Some(Value::Rule(rule)) => format!("{rule:?}"),
            Some(Value::Raw(_)) | None => panic!("no value in {change:?}"),
        };
        // A change must refer to an existing resource, and a creation to a new one.
        macro_rules! group {
            () => {
                self.groups.get_mut(&id(&change.group)).expect("a group")
            };
        }
        macro_rules! role {
            () => {
                self.roles.get_mut(&id(&change.role)).expect("a role")
            };
        }
        macro_rules! user {
            () => {
                self.users.get_mut(&id(&change.user)).expect("a user")
            };
        }
        let fine = match change.kind() {
            ChangeKind::GroupCreated => self
                .groups
                .insert(
                    id(&change.group),
                    (text(&change.after), BTreeSet::new(), BTreeSet::new()),
                )
                .is_none(),
            ChangeKind::GroupRenamed => {
                std::mem::replace(&mut group!().0, text(&change.after)) == text(&change.before)
            }
            ChangeKind::GroupDeleted => {
                let gone = self.groups.remove(&id(&change.group)).expect("a group");
                gone == (text(&change.before), BTreeSet::new(), BTreeSet::new())
            }
            ChangeKind::RoleAssigned => group!().1.insert(id(&change.role)),
            ChangeKind::RoleRemoved => group!().1.remove(&id(&change.role)),
            ChangeKind::UserAssigned => group!().2.insert(id(&change.user)),
            ChangeKind::UserUnassigned => group!().2.remove(&id(&change.user)),
            ChangeKind::RoleCreated => self
                .roles
                .insert(
                    id(&change.role),
                    (text(&change.after), String::new(), BTreeSet::new()),
                )
                .is_none(),
            ChangeKind::RoleRenamed => {
                std::mem::replace(&mut role!().0, text(&change.after)) == text(&change.before)
            }
            ChangeKind::RoleDescribed => {
                role!().1 = text(&change.after);
                true
            }
            ChangeKind::RuleAdded => role!().2.insert(text(&change.after)),
            ChangeKind::RuleRemoved => role!().2.remove(&text(&change.before)),
            ChangeKind::RoleDeleted => self
                .roles
                .remove(&id(&change.role))
                .expect("a role")
                .2
                .is_empty(),
            ChangeKind::UserCreated => self
                .users
                .insert(id(&change.user), (text(&change.after), " ".into(), false))
                .is_none(),
            ChangeKind::UserRenamed => {
                std::mem::replace(&mut user!().0, text(&change.after)) == text(&change.before)
            }
            ChangeKind::UserNamed => {
                user!().1 = text(&change.after);
                true
            }
            ChangeKind::UserBlocked => !std::mem::replace(&mut user!().2, true),
            ChangeKind::UserUnblocked => std::mem::replace(&mut user!().2, false),
            ChangeKind::UserDeleted => self.users.remove(&id(&change.user)).is_some(),
            ChangeKind::Unspecified => false,
        };
        assert!(fine, "{change:?} doesn't follow from what was before");
    }

    /// Reads the state from the lists, with at least this revision: another instance may lag behind.
    pub(crate) async fn read_lists(channel: Channel, min_revision: i64) -> Self {
        let mut directory = Self::default();
        let mut groups = GroupServiceClient::new(channel.clone());
        let mut token = String::new();
        loop {
            let request = pb::ListRolesRequest {
                page_size: 1000,
                page_token: token,
                min_revision,
                ..Default::default()
            };
            let page = RoleServiceClient::new(channel.clone())
                .list_roles(request)
                .await
                .expect("listed")
                .into_inner();
            for role in page.roles {
                let rules = role.rules.iter().map(|rule| format!("{rule:?}")).collect();
                directory
                    .roles
                    .insert(role.id, (role.name, role.description, rules));
            }
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        loop {
            let request = pb::ListUsersRequest {
                page_size: 1000,
                page_token: token,
                min_revision,
                ..Default::default()
            };
            let page = UserServiceClient::new(channel.clone())
                .list_users(request)
                .await
                .expect("listed")
                .into_inner();
            for user in page.users {
                let blocked = user.status() == pb::UserStatus::Blocked;
                let names = format!("{} {}", user.first_name, user.last_name);
                directory
                    .users
                    .insert(user.id, (user.username, names, blocked));
            }
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        loop {
            let request = pb::ListGroupsRequest {
                page_size: 1000,
                page_token: token,
                min_revision,
                ..Default::default()
            };
            let page = groups
                .list_groups(request)
                .await
                .expect("listed")
                .into_inner();
            for group in page.groups {
                let request = pb::ListUsersInGroupRequest {
                    page_size: 1000,
                    min_revision,
                    ..users_in(&group.id)
                };
                let users = groups
                    .list_users_in_group(request)
                    .await
                    .expect("listed")
                    .into_inner()
                    .users;
                let users = users.into_iter().map(|user| user.id).collect();
                let roles = group.roles.into_iter().map(|role| role.id).collect();
                directory
                    .groups
                    .insert(group.id, (group.title, roles, users));
            }
            token = page.next_page_token;
            if token.is_empty() {
                return directory;
            }
        }
    }
}

/// Makes a random write, reproducible by its seed. Failing writes are fine, too: they must change nothing.
pub(crate) async fn random_operation(
    channel: &Channel,
    ids: &Ids,
    mut random: u64,
) -> Result<(), tonic::Status> {
    let mut draw = |most: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % most
    };
    let mut groups = GroupServiceClient::new(channel.clone());
    let mut roles = RoleServiceClient::new(channel.clone());
    let mut users = UserServiceClient::new(channel.clone());
    let (group, other) = (ids.pick(0, draw(40)), ids.pick(0, draw(40)));
    let (role, more) = (ids.pick(1, draw(20)), ids.pick(1, draw(20)));
    let user = ids.pick(2, draw(60));
    let many: BTreeSet<_> = (0..draw(8) + 1).map(|_| ids.pick(2, draw(60))).collect();
    let many: Vec<_> = many.into_iter().collect();
    let rule = allow(&format!("b{}", draw(4)), "*", &format!("a{}", draw(4)));
    let name = format!("name {}", draw(3000));
    match draw(14) {
        0 | 1 => {
            let created = groups
                .create_group(create(&name, &[&role]))
                .await?
                .into_inner();
            ids.put(0, draw(40), created.group.expect("a group").id)
        }
        2 => {
            let request = pb::CreateRoleRequest {
                name: name.clone(),
                description: name,
                rules: vec![rule],
                ..Default::default()
            };
            let created = roles.create_role(request).await?.into_inner();
            ids.put(1, draw(20), created.role.expect("a role").id)
        }
        3 => {
            let request = pb::CreateUserRequest {
                username: name.clone(),
                last_name: name,
                ..Default::default()
            };
            let created = users.create_user(request).await?.into_inner();
            ids.put(2, draw(60), created.user.expect("a user").id)
        }
        4 => drop(
            groups
                .update_group(pb::UpdateGroupRequest {
                    title: Some(name),
                    ..update(&group)
                })
                .await?,
        ),
        5 => drop(
            groups
                .update_group(pb::UpdateGroupRequest {
                    add_role_ids: vec![role],
                    ..update(&group)
                })
                .await?,
        ),
        6 => drop(
            groups
                .update_group(pb::UpdateGroupRequest {
                    remove_role_ids: vec![more],
                    ..update(&group)
                })
                .await?,
        ),
        7 => drop(groups.delete_group(delete(&other)).await?),
        8 => drop(groups.batch_assign_users(assign_all(&group, &many)).await?),
        9 => drop(
            groups
                .batch_unassign_users(unassign_all(&other, &many))
                .await?,
        ),
        10 => drop(
            roles
                .update_role(pb::UpdateRoleRequest {
                    role_id: role,
                    add_rules: vec![rule],
                    name: Some(name),
                    ..Default::default()
                })
                .await?,
        ),
        11 => drop(
            roles
                .update_role(pb::UpdateRoleRequest {
                    role_id: role,
                    remove_rules: vec![rule],
                    ..Default::default()
                })
                .await?,
        ),
        12 => {
            let status = Some(1 + draw(2) as i32);
            drop(
                users
                    .update_user(pb::UpdateUserRequest {
                        user_id: user,
                        status,
                        first_name: Some(name),
                        ..Default::default()
                    })
                    .await?,
            )
        }
        _ => {
            if draw(2) == 0 {
                drop(users.delete_user(crate::user::delete(&user)).await?)
            } else {
                drop(roles.delete_role(crate::role::delete(&role)).await?)
            }
        }
    }
    Ok(())
}

/// Ids of groups, roles and users that existed at some time.
pub(crate) struct Ids([std::sync::Mutex<BTreeMap<usize, String>>; 3], String);

impl Ids {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Default::default(), crate::harness::unknown_id()))
    }

    pub(crate) fn pick(&self, kind: usize, key: usize) -> String {
        self.0[kind]
            .lock()
            .expect("no panic")
            .get(&key)
            .unwrap_or(&self.1)
            .clone()
    }

    fn put(&self, kind: usize, key: usize, id: String) {
        self.0[kind].lock().expect("no panic").insert(key, id);
    }
}

/// Replays all changes of a state of at least this revision, checks that revisions have no gap, and returns the
/// resulting directory and the changes.
pub(crate) async fn replay(channel: &Channel, min_revision: i64) -> (Directory, Vec<pb::Change>) {
    let mut folded = Directory::default();
    let mut all: Vec<pb::Change> = Vec::new();
    let mut request = pb::ListChangesRequest {
        page_size: 1000,
        min_revision,
        ..Default::default()
    };
    loop {
        let page = ChangeServiceClient::new(channel.clone())
            .list_changes(request.clone())
            .await
            .expect("listed")
            .into_inner();
        for change in page.changes {
            let last = all.last().map_or(0, |change| change.revision);
            let next = if change.index == 0 { last + 1 } else { last };
            assert_eq!(change.revision, next, "no gap");
            folded.apply(&change);
            all.push(change);
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            let last = all.last().map_or(0, |change| change.revision);
            assert_eq!(page.revision, last);
            return (folded, all);
        }
    }
}

const OPERATIONS: usize = 20_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaying_changes_reproduces_the_directory() {
    let w = TestServer::start().await;
    let ids = Ids::new();
    let done = Arc::new(AtomicUsize::new(0));
    let mut writers = JoinSet::new();
    for _ in 0..16 {
        let (channel, ids, done) = (w.channel.clone(), ids.clone(), done.clone());
        writers.spawn(async move {
            loop {
                let number = done.fetch_add(1, Ordering::Relaxed);
                if number >= OPERATIONS {
                    return;
                }
                let _ = random_operation(&channel, &ids, number as u64 * 7919).await;
            }
        });
    }
    writers.join_all().await;
    let (folded, changes) = replay(&w.channel, 0).await;
    let last = changes.last().map_or(0, |change| change.revision);
    assert!(
        last > OPERATIONS as i64 / 8,
        "only {last} of the operations changed anything"
    );
    assert_eq!(folded, Directory::read_lists(w.channel.clone(), 0).await);
    crate::crash::assert_consistent(&w.database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watcher_reconnects_and_server_crashes_lose_no_changes() {
    let database = Database::create().await;
    let mut server = Process::start(database.url()).await;
    let (address, addresses) = watch::channel(server.address);
    let ids = Ids::new();
    let over = Arc::new(AtomicBool::new(false));
    let mut writers = JoinSet::new();
    for writer in 0..16_u64 {
        let (addresses, ids, over) = (addresses.clone(), ids.clone(), over.clone());
        writers.spawn(async move {
            let mut number = writer * 1_000_003;
            while !over.load(Ordering::Relaxed) {
                let uri = format!("http://{}", *addresses.borrow());
                let channel = Channel::from_shared(uri).expect("a URI").connect_lazy();
                for _ in 0..50 {
                    number += 1;
                    if let Err(status) = random_operation(&channel, &ids, number * 7919).await
                        && status.code() == tonic::Code::Unavailable
                    {
                        tokio::task::yield_now().await;
                        break;
                    }
                }
            }
        });
    }
    // The last revision is only known once all writers have ended.
    let ended = Arc::new(AtomicBool::new(false));
    let (progress, mut seen) = watch::channel((0_usize, 0_i64));
    let follower = tokio::spawn({
        let (addresses, ended) = (addresses.clone(), ended.clone());
        async move {
            let mut feed = Vec::new();
            let mut complete = 0;
            let mut connections = 0;
            // Until all writers have ended, and the last revision has been received.
            loop {
                let uri = format!("http://{}", *addresses.borrow());
                let channel = Channel::from_shared(uri).expect("a URI").connect_lazy();
                let mut client = ChangeServiceClient::new(channel);
                let was_over = ended.load(Ordering::SeqCst);
                let last = client
                    .list_changes(pb::ListChangesRequest {
                        page_size: 1,
                        ..Default::default()
                    })
                    .await;
                if was_over
                    && last
                        .as_ref()
                        .is_ok_and(|last| last.get_ref().revision == complete)
                {
                    return (feed, connections);
                }
                let request = pb::WatchChangesRequest {
                    from_revision: complete + 1,
                    ..Default::default()
                };
                let Ok(stream) = client.watch_changes(request).await else {
                    continue;
                };
                connections += 1;
                let mut stream = stream.into_inner();
                // Cancelled after a different number of messages each time.
                for _ in 0..connections % 7 + 1 {
                    let Ok(Some(batch)) = stream.message().await else {
                        break;
                    };
                    feed.extend(batch.changes);
                    complete = batch.revision;
                    progress.send_replace((connections, complete));
                    if was_over {
                        break;
                    }
                }
                // Discard changes of an incomplete revision: they are sent again.
                feed.retain(|change: &pb::Change| change.revision <= complete);
            }
        }
    });
    for crash in 0..10 {
        let (connections, revision) = *seen.borrow_and_update();
        let far = seen.wait_for(|(c, r)| *c >= connections + 5 && *r >= revision + 50);
        tokio::time::timeout(Duration::from_secs(60), far)
            .await
            .unwrap_or_else(|_| panic!("stuck at {crash}"))
            .expect("follows");
        server.kill().await;
        server = Process::start(database.url()).await;
        address.send_replace(server.address);
    }
    let far = seen.wait_for(|(connections, _)| *connections >= 60);
    tokio::time::timeout(Duration::from_secs(60), far)
        .await
        .expect("goes on")
        .expect("follows");
    over.store(true, Ordering::SeqCst);
    writers.join_all().await;
    ended.store(true, Ordering::SeqCst);
    let followed = tokio::time::timeout(Duration::from_secs(60), follower).await;
    let (feed, connections) = followed.expect("it ends").expect("no panic");
    assert!(connections >= 50);

    let mut folded = Directory::default();
    let (mut revision, mut index) = (0, -1);
    for change in &feed {
        let expected = if change.index == 0 {
            (revision + 1, 0)
        } else {
            (revision, index + 1)
        };
        assert_eq!(
            (change.revision, change.index),
            expected,
            "every change once, in order"
        );
        (revision, index) = expected;
        folded.apply(change);
    }
    assert_eq!(
        folded,
        Directory::read_lists(server.connect().await, 0).await
    );
    server.stop().await;
}
