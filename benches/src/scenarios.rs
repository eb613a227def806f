//! The scenarios; related ones share a file.

mod abuse;
mod access;
mod changes;
mod create;
mod decide;
mod large;
mod mixed;
mod openfga;
mod overload;
mod pages;
mod postgres;
mod process;
mod reads;
mod soak;
mod tls_tokens;

use crate::channel::Channel;
use clap::ValueEnum;

use crate::{
    Run,
    directory::{Directory, LARGE, SMALL},
    load::LoadResult,
    report::{Row, Target, thousands},
    rounds::MedianRange,
};

/// Default number of concurrent callers.
const CALLERS: usize = 32;
/// Number of connections that the callers share, like a few client processes with one connection each.
const CHANNELS: usize = 4;
/// Number of hot resources in scenarios that are served from the cache.
const HOT: u64 = 256;

/// The scenarios, by the names that `bench` accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// `ListRolesInGroup`, `CheckAccess` and `GetGroup` from the cache, against bare tonic
    Reads,
    /// The same without a cache
    Uncached,
    /// `CheckAccess` of 10,000 users, with a cache for a tenth of them
    CachePressure,
    /// `BatchCheckAccess` of 100 questions against `CheckAccess`
    Batch,
    /// The access decision alone, against casbin
    Decide,
    /// `CheckAccess` against OpenFGA's `Check`
    Openfga,
    /// `CreateGroup` with 64 callers and with one, against a raw loop
    Create,
    /// `AssignUser` on PostgreSQL, 64 callers against one
    Assign,
    /// Reads with 16 concurrent writers
    Mixed,
    /// The same server with TLS and tokens against without, and against bare tonic with TLS
    TlsTokens,
    /// A well-behaved caller during attacks
    Abuse,
    /// All features for a long time; only runs if named
    Soak,
    /// Twice as many calls as the server can handle, for a minute
    Overload,
    /// Two instances on PostgreSQL, one core each, against one
    Instances,
    /// Writers with 100 watchers of the changes
    Watchers,
    /// A million changes against a thousand, and their expiry
    History,
    /// Every RPC on a large directory against a small one
    Large,
    /// The last page of every list against the first, on the large directory
    Pages,
    /// Resident memory, idle and on the large directory under load
    Memory,
    /// From start-up to the first response, on an empty directory and on the large one
    Start,
}

impl Scenario {
    /// All scenarios but `Soak`, in the order of their resource needs.
    pub(crate) fn all() -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|scenario| *scenario != Self::Soak).collect()
    }

    /// Runs the scenario.
    pub(crate) async fn measure(self, run: &mut Run) {
        match self {
            Self::Reads => reads::warm(run).await,
            Self::Uncached => reads::uncached(run).await,
            Self::CachePressure => access::zipf(run).await,
            Self::Batch => access::batch(run).await,
            Self::Decide => decide::compare_with_casbin(run).await,
            Self::Openfga => openfga::openfga(run).await,
            Self::Create => create::create(run).await,
            Self::Assign => postgres::assign(run).await,
            Self::Mixed => mixed::mixed(run).await,
            Self::TlsTokens => tls_tokens::tls_tokens(run).await,
            Self::Abuse => abuse::abuse(run).await,
            Self::Soak => soak::soak(run).await,
            Self::Overload => overload::overload(run),
            Self::Instances => postgres::instances(run).await,
            Self::Watchers => changes::watchers(run).await,
            Self::History => changes::history(run).await,
            Self::Large => large::every_rpc(run).await,
            Self::Pages => pages::compare_last_with_first_page(run).await,
            Self::Memory => process::memory(run).await,
            Self::Start => process::start(run).await,
        }
    }
}

/// A new small directory for a scenario.
fn small(run: &Run, name: &str) -> Directory {
    Directory::make(&run.path(&format!("{name}.db")), SMALL)
}

/// The large directory, created by the first scenario that needs it.
fn large(run: &Run) -> Directory {
    let dir = run.large_dir.as_deref().unwrap_or(run.dir.path());
    Directory::make(&dir.join("large.db"), LARGE)
}

fn rates(measured: &[LoadResult]) -> Vec<f64> {
    measured.iter().map(LoadResult::rate).collect()
}

fn within(measured: &[LoadResult], share: f64) -> Vec<f64> {
    measured
        .iter()
        .map(|measured| measured.within(share))
        .collect()
}

/// The ratio of two rates, ours to theirs.
fn speed(
    scenario: &'static str,
    what: &str,
    against: &str,
    target: Target,
    (ours, theirs): (&[f64], &[f64]),
) -> Row {
    let figure = |rates: &[f64]| thousands(crate::rounds::median(rates));
    Row {
        scenario,
        what: what.to_owned(),
        against: against.to_owned(),
        target,
        unit: "",
        measured: MedianRange::ratio(ours, theirs),
        note: format!("{}/s to {}/s", figure(ours), figure(theirs)),
    }
}

/// The ratio of two latencies in ms, ours to theirs.
fn latency(
    scenario: &'static str,
    what: &str,
    against: &str,
    target: Target,
    (ours, theirs): (&[f64], &[f64]),
) -> Row {
    let figure = |times: &[f64]| format!("{:.2}", crate::rounds::median(times));
    Row {
        note: format!("{} ms to {} ms", figure(ours), figure(theirs)),
        ..speed(scenario, what, against, target, (ours, theirs))
    }
}

/// The connections of [`CALLERS`].
async fn channels(address: &str) -> Vec<Channel> {
    crate::server::channels(address, CHANNELS).await
}
