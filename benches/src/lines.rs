//! The lines of the table, a file for those that belong together.

mod abuse;
mod access;
mod changes;
mod create;
mod decide;
mod large;
mod mixed;
mod overload;
mod pages;
mod peer;
mod postgres;
mod process;
mod reads;
mod secure;
mod soak;

use crate::channel::Channel;
use clap::ValueEnum;

use crate::{
    Run,
    directory::{Directory, LARGE, SMALL},
    load::Seen,
    report::{Row, Wanted, thousands},
    rounds::Spread,
};

/// How many callers ask at once, where nothing else is said.
const CALLERS: usize = 32;
/// How many connections they share, as a few processes of clients would: each of them has one.
const CHANNELS: usize = 4;
/// How many things are hot, where the load is to be answered from memory.
const HOT: u64 = 256;

/// What can be measured: the names that `bench` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Line {
    /// `ListRolesInGroup`, `CheckAccess` and `GetGroup` from memory, against bare tonic
    Reads,
    /// The same without a cache
    Uncached,
    /// `CheckAccess` of 10,000 users in a cache that holds a tenth of them
    Zipf,
    /// `BatchCheckAccess` of 100 against `CheckAccess`
    Batch,
    /// The decision alone against casbin's
    Decide,
    /// `CheckAccess` against OpenFGA's `Check`
    Peer,
    /// `CreateGroup` with 64 callers and with one, against a raw loop
    Create,
    /// `AssignUser` on PostgreSQL, 64 callers against one
    Assign,
    /// Reads beside 16 writers
    Mixed,
    /// The same server with TLS and tokens against without, and against bare tonic with TLS
    Secure,
    /// A good caller while others mean harm
    Abuse,
    /// Everything on for a long time: only if it is asked for
    Soak,
    /// Twice as many calls as the server can take, for a minute
    Overload,
    /// Two instances on PostgreSQL, a core each, against one
    Instances,
    /// Writers beside 100 followers of the changes
    Followers,
    /// A million changes against a thousand, and their expiry
    History,
    /// Every RPC on a large directory against a small one
    Large,
    /// The last page of every list against the first, on the large directory
    Pages,
    /// Resident memory, idle and on the large directory under load
    Memory,
    /// From the start to the first answer, on an empty directory and on the large one
    Start,
}

impl Line {
    /// All of them, those first that need the least.
    pub(crate) fn all() -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|line| *line != Self::Soak).collect()
    }

    /// Measures the line.
    pub(crate) async fn measure(self, run: &mut Run) {
        match self {
            Self::Reads => reads::warm(run).await,
            Self::Uncached => reads::uncached(run).await,
            Self::Zipf => access::zipf(run).await,
            Self::Batch => access::batch(run).await,
            Self::Decide => decide::against_casbin(run).await,
            Self::Peer => peer::openfga(run).await,
            Self::Create => create::create(run).await,
            Self::Assign => postgres::assign(run).await,
            Self::Mixed => mixed::mixed(run).await,
            Self::Secure => secure::secure(run).await,
            Self::Abuse => abuse::abuse(run).await,
            Self::Soak => soak::soak(run).await,
            Self::Overload => overload::overload(run),
            Self::Instances => postgres::instances(run).await,
            Self::Followers => changes::followers(run).await,
            Self::History => changes::history(run).await,
            Self::Large => large::every_rpc(run).await,
            Self::Pages => pages::last_against_first(run).await,
            Self::Memory => process::memory(run).await,
            Self::Start => process::start(run).await,
        }
    }
}

/// A fresh small directory for a line.
fn small(run: &Run, name: &str) -> Directory {
    Directory::make(&run.path(&format!("{name}.db")), SMALL)
}

/// The large directory, made by the first line that needs it.
fn large(run: &Run) -> Directory {
    let dir = run.large_dir.as_deref().unwrap_or(run.dir.path());
    Directory::make(&dir.join("large.db"), LARGE)
}

fn rates(seen: &[Seen]) -> Vec<f64> {
    seen.iter().map(Seen::rate).collect()
}

fn within(seen: &[Seen], share: f64) -> Vec<f64> {
    seen.iter().map(|seen| seen.within(share)).collect()
}

/// The ratio of two rates, ours to theirs.
fn speed(
    line: &'static str,
    what: &str,
    against: &str,
    wanted: Wanted,
    (ours, theirs): (&[f64], &[f64]),
) -> Row {
    let figure = |rates: &[f64]| thousands(crate::rounds::median(rates));
    Row {
        line,
        what: what.to_owned(),
        against: against.to_owned(),
        wanted,
        unit: "",
        seen: Spread::ratio(ours, theirs),
        note: format!("{}/s to {}/s", figure(ours), figure(theirs)),
    }
}

/// The ratio of two latencies in ms, ours to theirs.
fn latency(
    line: &'static str,
    what: &str,
    against: &str,
    wanted: Wanted,
    (ours, theirs): (&[f64], &[f64]),
) -> Row {
    let figure = |times: &[f64]| format!("{:.2}", crate::rounds::median(times));
    Row {
        note: format!("{} ms to {} ms", figure(ours), figure(theirs)),
        ..speed(line, what, against, wanted, (ours, theirs))
    }
}

/// The connections of [`CALLERS`].
async fn channels(address: &str) -> Vec<Channel> {
    crate::server::channels(address, CHANNELS).await
}
