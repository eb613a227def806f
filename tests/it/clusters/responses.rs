//! Checks that each response is correct for the revision that it names, and fresh enough.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicI64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use group_service::pb::{
    self, group_service_client::GroupServiceClient, role_service_client::RoleServiceClient,
    user_service_client::UserServiceClient,
};
use tonic::{Status, transport::Channel};

use crate::change_replay::{Directory, Ids};

/// The default of `--max-staleness`.
pub(crate) const MAX_STALENESS: Duration = Duration::from_secs(2);
/// The number of responses that are kept and checked at the end. The freshness of all responses is checked at once.
const MAX_KEPT: usize = 100_000;

/// The responses of some instances.
pub(crate) struct ObservedResponses {
    /// The latest revision that each instance has returned, in a response or an acknowledgement.
    instances: Vec<AtomicI64>,
    /// Acknowledged revisions in ascending order, with the times of acknowledgement.
    acknowledged: Mutex<Vec<(Instant, i64)>>,
    kept: Mutex<Vec<(i64, Answer)>>,
    count: AtomicUsize,
}

enum Answer {
    Group(pb::Group),
    Role(pb::Role),
    User(pb::User),
    RolesInGroup(String, Vec<pb::Role>),
}

impl ObservedResponses {
    pub(crate) fn new(instances: usize) -> Self {
        Self {
            instances: (0..instances).map(|_| AtomicI64::new(0)).collect(),
            acknowledged: Mutex::default(),
            kept: Mutex::default(),
            count: AtomicUsize::new(0),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Records that an instance has acknowledged a write.
    pub(crate) fn acknowledge(&self, instance: usize, revision: i64) {
        self.instances[instance].fetch_max(revision, Ordering::SeqCst);
        let mut acknowledged = self.acknowledged.lock().expect("no panic");
        if acknowledged.last().is_none_or(|last| last.1 < revision) {
            acknowledged.push((Instant::now(), revision));
        }
    }

    /// The oldest revision that a response of an instance may reflect now: at least what the instance itself has
    /// returned before, and what any instance had acknowledged `--max-staleness` ago.
    fn bound(&self, instance: usize) -> i64 {
        let known = self.instances[instance].load(Ordering::SeqCst);
        let acknowledged = self.acknowledged.lock().expect("no panic");
        let now = Instant::now();
        let old =
            acknowledged.partition_point(|(time, _)| now.duration_since(*time) > MAX_STALENESS);
        let old = old.checked_sub(1).map_or(0, |last| acknowledged[last].1);
        known.max(old)
    }

    /// Reads a resource from an instance without `min_revision`, and checks that the response is fresh enough.
    pub(crate) async fn ask(
        &self,
        instance: usize,
        channel: &Channel,
        ids: &Ids,
        number: usize,
    ) -> Result<(), Status> {
        let bound = self.bound(instance);
        let (revision, answer) = match number % 4 {
            0 => {
                let group_id = ids.pick(0, number % 40);
                let request = pb::GetGroupRequest {
                    group_id,
                    ..Default::default()
                };
                let mut groups = GroupServiceClient::new(channel.clone());
                let got = groups.get_group(request).await?.into_inner();
                (got.revision, Answer::Group(got.group.expect("a group")))
            }
            1 => {
                let role_id = ids.pick(1, number % 20);
                let request = pb::GetRoleRequest {
                    role_id,
                    ..Default::default()
                };
                let mut roles = RoleServiceClient::new(channel.clone());
                let got = roles.get_role(request).await?.into_inner();
                (got.revision, Answer::Role(got.role.expect("a role")))
            }
            2 => {
                let user_id = ids.pick(2, number % 60);
                let request = pb::GetUserRequest {
                    user_id,
                    ..Default::default()
                };
                let mut users = UserServiceClient::new(channel.clone());
                let got = users.get_user(request).await?.into_inner();
                (got.revision, Answer::User(got.user.expect("a user")))
            }
            _ => {
                let group_id = ids.pick(0, number % 40);
                let request = pb::ListRolesInGroupRequest {
                    group_id: group_id.clone(),
                    page_size: 1000,
                    ..Default::default()
                };
                let mut groups = GroupServiceClient::new(channel.clone());
                let listed = groups.list_roles_in_group(request).await?.into_inner();
                assert!(listed.next_page_token.is_empty(), "{listed:?}");
                (
                    listed.revision,
                    Answer::RolesInGroup(group_id, listed.roles),
                )
            }
        };
        assert!(
            revision >= bound,
            "instance {instance} answers from {revision}, after {bound}"
        );
        self.instances[instance].fetch_max(revision, Ordering::SeqCst);
        self.count.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock().expect("no panic");
        if kept.len() < MAX_KEPT {
            kept.push((revision, answer));
        }
        Ok(())
    }

    /// Checks the kept responses against the state at their revisions, computed by replaying all changes.
    pub(crate) fn verify(&self, changes: &[pb::Change]) {
        let mut kept = std::mem::take(&mut *self.kept.lock().expect("no panic"));
        kept.sort_by_key(|(revision, _)| *revision);
        let mut changes = changes.iter().peekable();
        let mut directory = Directory::default();
        for (revision, answer) in &kept {
            while let Some(change) = changes.next_if(|change| change.revision <= *revision) {
                directory.apply(change);
            }
            answer.verify(&directory, *revision);
        }
    }
}

impl Answer {
    fn verify(&self, directory: &Directory, revision: i64) {
        match self {
            Self::Group(group) => {
                let (title, roles, users) = &directory.groups[&group.id];
                let reported: BTreeSet<_> =
                    group.roles.iter().map(|role| role.id.clone()).collect();
                assert_eq!(
                    (&group.title, &reported, group.user_count),
                    (title, roles, users.len() as i64),
                    "group {} at {revision}",
                    group.id
                );
            }
            Self::Role(role) => verify_role(directory, role, revision),
            Self::User(user) => {
                let (username, name, blocked) = &directory.users[&user.id];
                let reported = format!("{} {}", user.first_name, user.last_name);
                assert_eq!(
                    (
                        &user.username,
                        &reported,
                        user.status() == pb::UserStatus::Blocked
                    ),
                    (username, name, *blocked),
                    "user {} at {revision}",
                    user.id
                );
            }
            Self::RolesInGroup(group, roles) => {
                let reported: BTreeSet<_> = roles.iter().map(|role| role.id.clone()).collect();
                let expected = &directory.groups[group].1;
                assert_eq!(&reported, expected, "roles in {group} at {revision}");
                for role in roles {
                    verify_role(directory, role, revision);
                }
            }
        }
    }
}

fn verify_role(directory: &Directory, role: &pb::Role, revision: i64) {
    let (name, description, rules) = &directory.roles[&role.id];
    let groups = directory.groups.values();
    let groups = groups.filter(|group| group.1.contains(&role.id)).count() as i64;
    let reported: BTreeSet<_> = role.rules.iter().map(|rule| format!("{rule:?}")).collect();
    assert_eq!(
        (&role.name, &role.description, &reported, role.group_count),
        (name, description, rules, groups),
        "role {} at {revision}",
        role.id
    );
}
