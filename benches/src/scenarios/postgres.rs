//! PostgreSQL: concurrent writers that share transactions, and several instances.

use super::{channels, rates, speed};
use crate::{
    Run, caller::PinnedClients, calls::assign_users, load::closed_loop, postgres::Postgres,
    report::Target, rounds::alternate, server::Server, stage::create_fixture,
};

/// Number of concurrent writers.
const CONCURRENT_WRITERS: usize = 64;

/// Writes of many callers against those of one.
pub(super) async fn assign(run: &mut Run) {
    let Some((dir, postgres)) = postgres(run, "assign") else {
        return;
    };
    let server = Server::start(&postgres.url(), &[], dir.path(), None);
    let channels = channels(server.address()).await;
    let fixture = create_fixture(&channels[0], 500, 1000, 0).await;
    let call = assign_users(fixture.groups, fixture.users);
    let (many, one) = alternate(
        run.rounds,
        async || closed_loop(&channels, CONCURRENT_WRITERS, run.time, &call).await,
        async || closed_loop(&channels, 1, run.time, &call).await,
    )
    .await;
    let what = format!("AssignUser, PostgreSQL, {CONCURRENT_WRITERS} callers");
    let pair = (&*rates(&many), &*rates(&one));
    run.report.add(speed(
        "assign",
        &what,
        "1 caller",
        Target::AtLeast(4.0),
        pair,
    ));
}

/// Two instances, each with its callers on a separate core, against one of them on the same core.
pub(super) async fn instances(run: &mut Run) {
    let Some((dir, postgres)) = postgres(run, "instances") else {
        return;
    };
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("NOT RUN: instances: it takes two cores");
        return;
    }
    let cores = ["0", "1"];
    let servers = cores.map(|core| Server::start(&postgres.url(), &[], dir.path(), Some(core)));
    let fixture = create_fixture(&servers[0].connect().await, 256, 256, 256).await;
    let mut callers =
        [0, 1].map(|n| PinnedClients::start(servers[n].address(), &fixture, cores[n]));
    let mut alone = [Vec::new(), Vec::new()];
    let mut both = [Vec::new(), Vec::new()];
    for _ in 0..run.rounds {
        for (callers, alone) in callers.iter_mut().zip(&mut alone) {
            callers.begin(run.time);
            alone.push(callers.end());
        }
        for callers in &mut callers {
            callers.begin(run.time);
        }
        for (callers, both) in callers.iter_mut().zip(&mut both) {
            both.push(callers.end());
        }
    }
    for (which, (both, alone)) in ["one", "the other"].iter().zip(both.iter().zip(&alone)) {
        let what = format!("warm reads of two instances on PostgreSQL, a core each: {which}");
        let pair = (&**both, &**alone);
        run.report.add(speed(
            "instances",
            &what,
            "alone, same core",
            Target::AtLeast(0.95),
            pair,
        ));
    }
}

/// A server and its data directory, which is dropped after it.
fn postgres(run: &Run, scenario: &str) -> Option<(tempfile::TempDir, Postgres)> {
    let dir = tempfile::tempdir_in(run.dir.path().parent().expect("a file system")).expect("made");
    match Postgres::start(dir.path()) {
        Ok(postgres) => Some((dir, postgres)),
        Err(reason) => {
            eprintln!("NOT RUN: {scenario}: {reason}");
            None
        }
    }
}
