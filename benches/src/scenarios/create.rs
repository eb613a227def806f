//! `CreateGroup` against a raw loop of the same transactions.

use super::{channels, rates, small, speed};
use crate::{
    Run, calls::create_group, load::closed_loop, raw::SqliteBaseline, report::Target,
    rounds::alternate, server::Server,
};

pub(super) async fn create(run: &mut Run) {
    let (ours, theirs) = (small(run, "create"), small(run, "raw"));
    let server = Server::start_sqlite(&ours.path, &[]);
    let channels = channels(server.address()).await;
    let roles: Vec<_> = (0..3).map(|role| ours.role(role)).collect();
    let mut raw = SqliteBaseline::start(&theirs.path, &roles);
    let call = create_group(roles);
    for (callers, least) in [(64, 1.0), (1, 0.5)] {
        let (here, there) = alternate(
            run.rounds,
            async || closed_loop(&channels, callers, run.time, &call).await,
            async || raw.run(run.time),
        )
        .await;
        let s = if callers == 1 { "" } else { "s" };
        let what = format!("CreateGroup with 3 roles, SQLite, {callers} caller{s}");
        let pair = (&*rates(&here), &*there);
        let target = Target::AtLeast(least);
        let against = "raw loop, one commit each";
        run.report
            .add(speed("create", &what, against, target, pair));
    }
}
