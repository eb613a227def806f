//! Concurrent writers and readers on several instances, whose responses are verified against the change log.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use group_service::pb::{
    self, ChangeKind, group_service_client::GroupServiceClient,
    role_service_client::RoleServiceClient, value::Value,
};
use tokio::task::JoinSet;
use tonic::{Code, transport::Channel};

use super::responses::ObservedResponses;
use crate::{
    change_replay::{Directory, Ids, random_operation, replay},
    group::create,
    harness::unknown_id,
};

/// Duration of the load: `GROUP_SERVICE_TEST_SECONDS`, or 5 seconds.
pub(crate) fn seconds() -> Duration {
    let seconds = std::env::var("GROUP_SERVICE_TEST_SECONDS");
    let seconds = seconds.map_or(5, |seconds| seconds.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

/// Running load on some instances.
pub(crate) struct Load {
    channels: Vec<Channel>,
    callers: JoinSet<()>,
    shared: Arc<Shared>,
}

struct Shared {
    answers: ObservedResponses,
    ids: Arc<Ids>,
    over: AtomicBool,
    /// Codes that calls may fail with, in addition to the expected errors of their operations.
    refusals: &'static [Code],
    /// Acknowledged groups by their unique titles, with ids and revisions.
    acknowledged: Mutex<BTreeMap<String, (String, i64)>>,
    /// The last acknowledged group.
    latest: Mutex<Option<(String, i64)>>,
    writes: AtomicU64,
    reads: AtomicU64,
    refused: AtomicU64,
}

/// The results of the load.
pub(crate) struct LoadReport {
    pub(crate) acknowledged: usize,
    writes: u64,
    reads: u64,
    answers: usize,
    refused: u64,
}

impl std::fmt::Display for LoadReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            acknowledged,
            writes,
            reads,
            answers,
            refused,
        } = self;
        write!(
            f,
            "{writes} writes ({acknowledged} of them followed up one by one), {reads} reads, {answers} answers right and fresh, {refused} calls refused"
        )
    }
}

impl Load {
    /// Starts the load; calls may fail with the codes in `refusals`.
    pub(crate) async fn begin(
        channels: Vec<Channel>,
        writers: usize,
        readers: usize,
        refusals: &'static [Code],
    ) -> Self {
        let request = pb::CreateRoleRequest {
            name: format!("of the load {}", unknown_id()),
            ..Default::default()
        };
        let role = RoleServiceClient::new(channels[0].clone())
            .create_role(request)
            .await;
        let role = role.expect("created").into_inner().role.expect("a role").id;
        let shared = Arc::new(Shared {
            answers: ObservedResponses::new(channels.len()),
            ids: Ids::new(),
            over: AtomicBool::new(false),
            refusals,
            acknowledged: Mutex::default(),
            latest: Mutex::default(),
            writes: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        });
        let mut callers = JoinSet::new();
        for caller in 0..writers {
            let instance = caller % channels.len();
            let channel = channels[instance].clone();
            let shared = shared.clone();
            if caller % 2 == 0 {
                callers.spawn(run_random_operations(channel, shared, caller as u64));
            } else {
                callers.spawn(unique(channel, instance, role.clone(), shared, caller));
            }
        }
        for reader in 0..readers {
            callers.spawn(read(channels.clone(), shared.clone(), reader));
        }
        Self {
            channels,
            callers,
            shared,
        }
    }

    /// The number of writes acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.writes.load(Ordering::Relaxed)
    }

    /// Waits until this many more writes are acknowledged.
    pub(crate) async fn go_on(&self, writes: u64) {
        let wanted = self.acknowledged() + writes;
        let reached = async {
            while self.acknowledged() < wanted {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let reached = tokio::time::timeout(Duration::from_secs(60), reached).await;
        reached.expect("writes go on");
    }

    /// Makes a last write; reads with its revision as `min_revision` reflect all writes on every server.
    async fn last(&self) -> i64 {
        let mut roles = RoleServiceClient::new(self.channels[0].clone());
        let request = pb::CreateRoleRequest {
            name: format!("the last {}", unknown_id()),
            request_id: unknown_id(),
            ..Default::default()
        };
        let written = async {
            loop {
                match roles.create_role(request.clone()).await {
                    Ok(created) => return created.into_inner().revision,
                    Err(status) => self.shared.refused(&status).await,
                }
            }
        };
        let written = tokio::time::timeout(Duration::from_secs(60), written).await;
        written.expect("it can be written")
    }

    /// Ends the load and verifies: revisions have no gaps, replaying the changes yields the state of every
    /// instance, every response matches the revision that it names, and each acknowledged group was created exactly
    /// once.
    pub(crate) async fn verify(mut self) -> LoadReport {
        self.shared.over.store(true, Ordering::Relaxed);
        while let Some(caller) = self.callers.join_next().await {
            caller.expect("no caller was told anything wrong");
        }
        let (folded, changes) = replay(&self.channels[0], self.last().await).await;
        let last = changes.last().map_or(0, |change| change.revision);
        for channel in &self.channels {
            assert_eq!(folded, Directory::read_lists(channel.clone(), last).await);
        }
        self.shared.answers.verify(&changes);
        let mut created: BTreeMap<String, Vec<(String, i64)>> = BTreeMap::new();
        for change in changes
            .iter()
            .filter(|change| change.kind() == ChangeKind::GroupCreated)
        {
            let after = change.after.as_ref().and_then(|value| value.value.clone());
            let (Some(Value::Name(title)), Some(group)) = (after, &change.group) else {
                panic!("{change:?}");
            };
            let entry = (group.id.clone(), change.revision);
            created.entry(title).or_default().push(entry);
        }
        let acknowledged = self.shared.acknowledged.lock().expect("no panic");
        for (title, reported) in acknowledged.iter() {
            assert_eq!(created.get(title), Some(&vec![reported.clone()]), "{title}");
        }
        LoadReport {
            acknowledged: acknowledged.len(),
            writes: self.shared.writes.load(Ordering::Relaxed),
            reads: self.shared.reads.load(Ordering::Relaxed),
            answers: self.shared.answers.count(),
            refused: self.shared.refused.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    fn is_running(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Counts a failed call; panics if its code is not expected.
    async fn refused(&self, status: &tonic::Status) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let asked_for = [
            Code::NotFound,
            Code::AlreadyExists,
            Code::FailedPrecondition,
            // A machine that is too slow for this load rejects calls as overloaded.
            Code::ResourceExhausted,
        ];
        let refused = self.refusals.contains(&status.code());
        assert!(refused || asked_for.contains(&status.code()), "{status:?}");
        if refused {
            // Shorter than `RetryInfo` says, but long enough not to keep the machine busy.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn run_random_operations(channel: Channel, shared: Arc<Shared>, seed: u64) {
    let mut number = seed * 1_000_003;
    while shared.is_running() {
        number += 1;
        match random_operation(&channel, &shared.ids, number * 7919).await {
            Ok(()) => drop(shared.writes.fetch_add(1, Ordering::Relaxed)),
            Err(status) => shared.refused(&status).await,
        }
    }
}

/// Creates groups with unique titles. Every second one has a request id, and is retried until it is created.
async fn unique(
    channel: Channel,
    instance: usize,
    role: String,
    shared: Arc<Shared>,
    caller: usize,
) {
    let mut groups = GroupServiceClient::new(channel);
    for number in 0.. {
        let title = format!("unique {caller}.{number}");
        let request = pb::CreateGroupRequest {
            request_id: if number % 2 == 0 {
                unknown_id()
            } else {
                String::new()
            },
            ..create(&title, &[&role])
        };
        loop {
            match groups.create_group(request.clone()).await {
                Ok(created) => {
                    let created = created.into_inner();
                    let reported = (created.group.expect("a group").id, created.revision);
                    shared.writes.fetch_add(1, Ordering::Relaxed);
                    shared.answers.acknowledge(instance, reported.1);
                    *shared.latest.lock().expect("no panic") = Some(reported.clone());
                    let mut acknowledged = shared.acknowledged.lock().expect("no panic");
                    acknowledged.insert(title, reported);
                    break;
                }
                Err(status) => shared.refused(&status).await,
            }
            // Without a request id the outcome of a failed call may be unknown.
            if request.request_id.is_empty() || !shared.is_running() {
                break;
            }
        }
        if !shared.is_running() {
            return;
        }
    }
}

/// Reads from the instances in turn: a random resource, and the group last acknowledged by any instance.
async fn read(channels: Vec<Channel>, shared: Arc<Shared>, reader: usize) {
    let mut number = reader;
    while shared.is_running() {
        number += 1;
        let latest = shared.latest.lock().expect("no panic").clone();
        let Some((group_id, revision)) = latest else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let instance = number % channels.len();
        let channel = &channels[instance];
        let random = number.wrapping_mul(2_654_435_761) >> 7;
        let asked = shared.answers.ask(instance, channel, &shared.ids, random);
        if let Err(status) = asked.await {
            shared.refused(&status).await;
        }
        let mut groups = GroupServiceClient::new(channel.clone());
        let request = pb::GetGroupRequest {
            group_id,
            min_revision: revision,
        };
        match groups.get_group(request).await {
            Ok(got) => {
                assert!(got.into_inner().revision >= revision);
                shared.reads.fetch_add(1, Ordering::Relaxed);
            }
            Err(status) => {
                assert_ne!(status.code(), Code::NotFound, "{status:?}");
                assert_ne!(status.code(), Code::OutOfRange, "{status:?}");
                shared.refused(&status).await;
            }
        }
    }
}
