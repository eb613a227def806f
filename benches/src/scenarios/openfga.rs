//! The closest gRPC call of a comparable service: from a user through groups and roles to a rule.

use super::{CALLERS, HOT, channels, rates, small, speed};
use crate::{
    Run,
    calls::{check_access, question},
    directory::Directory,
    load::closed_loop,
    openfga::OpenFga,
    report::Target,
    rounds::alternate,
    server::Server,
};

/// `CheckAccess` against OpenFGA's `Check`, with the same questions on the same directory.
pub(super) async fn openfga(run: &mut Run) {
    let directory = small(run, "peer");
    let server = Server::start_sqlite(&directory.path, &[]);
    let ours = channels(server.address()).await;
    let users: Vec<_> = Directory::spread_indices(directory.size.users, HOT).collect();
    let asked = users.iter().map(|user| question(&directory, *user, *user));
    let call = check_access(asked.collect());
    let cached: &[&str] = &[
        "--check-query-cache-enabled",
        "--check-iterator-cache-enabled",
    ];
    for (how, further) in [("", &[][..]), (", its caches on", cached)] {
        let Some(peer) = OpenFga::start(&directory, further) else {
            eprintln!("NOT RUN: peer: there is no openfga, or no curl");
            return;
        };
        let theirs = channels(&peer.address()).await;
        let asked = users
            .iter()
            .map(|user| (*user, directory.allowed(*user, *user)));
        let their_call = peer.check(asked.collect());
        let (here, there) = alternate(
            run.rounds,
            async || closed_loop(&ours, CALLERS, run.time, &call).await,
            async || closed_loop(&theirs, CALLERS, run.time, &their_call).await,
        )
        .await;
        let what = format!("CheckAccess, {CALLERS} callers");
        let against = format!("OpenFGA, in memory{how}");
        let pair = (&*rates(&here), &*rates(&there));
        run.report
            .add(speed("peer", &what, &against, Target::Informational, pair));
    }
}
