//! Writers and readers on several instances at once, and the proof that what they were told is so.

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

use super::answers::Answers;
use crate::{
    feed::{Directory, Ids, folded, something},
    group::create,
    harness::id,
};

/// How long load lasts: `GROUP_SERVICE_TEST_SECONDS`, or a few seconds.
pub(crate) fn seconds() -> Duration {
    let seconds = std::env::var("GROUP_SERVICE_TEST_SECONDS");
    let seconds = seconds.map_or(5, |seconds| seconds.parse().expect("a number of seconds"));
    Duration::from_secs(seconds)
}

/// Load on some instances, until it is ended.
pub(crate) struct Load {
    channels: Vec<Channel>,
    callers: JoinSet<()>,
    shared: Arc<Shared>,
}

struct Shared {
    answers: Answers,
    ids: Arc<Ids>,
    over: AtomicBool,
    /// What calls may be refused with, beside what they ask for.
    refusals: &'static [Code],
    /// What was acknowledged: groups by their unique titles, with ids and revisions.
    acknowledged: Mutex<BTreeMap<String, (String, i64)>>,
    /// The last of them.
    latest: Mutex<Option<(String, i64)>>,
    writes: AtomicU64,
    reads: AtomicU64,
    refused: AtomicU64,
}

/// What became of the load.
pub(crate) struct Done {
    pub(crate) acknowledged: usize,
    writes: u64,
    reads: u64,
    answers: usize,
    refused: u64,
}

impl std::fmt::Display for Done {
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
    /// Begins; calls may be refused for a while with these codes.
    pub(crate) async fn begin(
        channels: Vec<Channel>,
        writers: usize,
        readers: usize,
        refusals: &'static [Code],
    ) -> Self {
        let request = pb::CreateRoleRequest {
            name: format!("of the load {}", id()),
            ..Default::default()
        };
        let role = RoleServiceClient::new(channels[0].clone())
            .create_role(request)
            .await;
        let role = role.expect("created").into_inner().role.expect("a role").id;
        let shared = Arc::new(Shared {
            answers: Answers::new(channels.len()),
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
                callers.spawn(at_random(channel, shared, caller as u64));
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

    /// How many writes were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u64 {
        self.shared.writes.load(Ordering::Relaxed)
    }

    /// Waits until as many more writes are acknowledged.
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

    /// One more write, behind all others: a state as fresh as it has them, on whichever server it is read.
    async fn last(&self) -> i64 {
        let mut roles = RoleServiceClient::new(self.channels[0].clone());
        let request = pb::CreateRoleRequest {
            name: format!("the last {}", id()),
            request_id: id(),
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

    /// Ends the load and proves it: revisions without a gap, the feed folded is the state on every instance, every
    /// answer is that of the revision it named, and all that was acknowledged is there, once.
    pub(crate) async fn prove(mut self) -> Done {
        self.shared.over.store(true, Ordering::Relaxed);
        while let Some(caller) = self.callers.join_next().await {
            caller.expect("no caller was told anything wrong");
        }
        let (folded, changes) = folded(&self.channels[0], self.last().await).await;
        let last = changes.last().map_or(0, |change| change.revision);
        for channel in &self.channels {
            assert_eq!(folded, Directory::listed(channel.clone(), last).await);
        }
        self.shared.answers.prove(&changes);
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
        for (title, told) in acknowledged.iter() {
            assert_eq!(created.get(title), Some(&vec![told.clone()]), "{title}");
        }
        Done {
            acknowledged: acknowledged.len(),
            writes: self.shared.writes.load(Ordering::Relaxed),
            reads: self.shared.reads.load(Ordering::Relaxed),
            answers: self.shared.answers.count(),
            refused: self.shared.refused.load(Ordering::Relaxed),
        }
    }
}

impl Shared {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Complains about what no caller may be told.
    async fn refused(&self, status: &tonic::Status) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let asked_for = [
            Code::NotFound,
            Code::AlreadyExists,
            Code::FailedPrecondition,
            // A machine that is too slow for this load says so, too.
            Code::ResourceExhausted,
        ];
        let refused = self.refusals.contains(&status.code());
        assert!(refused || asked_for.contains(&status.code()), "{status:?}");
        if refused {
            // Sooner than `RetryInfo` says, but not so often that there is time for nothing else.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn at_random(channel: Channel, shared: Arc<Shared>, seed: u64) {
    let mut number = seed * 1_000_003;
    while shared.goes_on() {
        number += 1;
        match something(&channel, &shared.ids, number * 7919).await {
            Ok(()) => drop(shared.writes.fetch_add(1, Ordering::Relaxed)),
            Err(status) => shared.refused(&status).await,
        }
    }
}

/// Creates groups of titles that nobody else uses, every second one with a request id, until it is created.
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
            request_id: if number % 2 == 0 { id() } else { String::new() },
            ..create(&title, &[&role])
        };
        loop {
            match groups.create_group(request.clone()).await {
                Ok(created) => {
                    let created = created.into_inner();
                    let told = (created.group.expect("a group").id, created.revision);
                    shared.writes.fetch_add(1, Ordering::Relaxed);
                    shared.answers.acknowledge(instance, told.1);
                    *shared.latest.lock().expect("no panic") = Some(told.clone());
                    let mut acknowledged = shared.acknowledged.lock().expect("no panic");
                    acknowledged.insert(title, told);
                    break;
                }
                Err(status) => shared.refused(&status).await,
            }
            // Without an id it can't be told whether it was carried out.
            if request.request_id.is_empty() || !shared.goes_on() {
                break;
            }
        }
        if !shared.goes_on() {
            return;
        }
    }
}

/// Reads from each instance in turn what was last acknowledged by any of them, and something at random.
async fn read(channels: Vec<Channel>, shared: Arc<Shared>, reader: usize) {
    let mut number = reader;
    while shared.goes_on() {
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
