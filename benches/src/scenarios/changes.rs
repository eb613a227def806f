//! The cost of changes: writes with many watchers, and with a long history.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::channel::Channel;
use group_service::pb::{self, change_service_client::ChangeServiceClient};
use tokio::task::JoinSet;

use super::{channels, latency, rates, small, speed, within};
use crate::{
    Run,
    calls::{assign_user, call},
    directory::{Directory, EPOCH_MILLIS, SMALL, Size},
    load::closed_loop,
    report::{Row, Target},
    rounds::{MedianRange, alternate},
    server::Server,
};

const WRITERS: usize = 16;
const WATCHERS: usize = 100;
const HISTORY: u64 = 1_000_000;
/// Expiry starts within this time after start-up.
const EXPIRY: Duration = Duration::from_secs(11);

/// Writers with watchers, half of which never read, against writers alone.
pub(super) async fn watchers(run: &mut Run) {
    let directory = small(run, "followed");
    let server = Server::start_sqlite(&directory.path, &[]);
    let channels = channels(server.address()).await;
    let write = assign_user(&directory);
    let (mut alone, mut beside, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..run.rounds {
        alone.push(
            closed_loop(&channels, WRITERS, run.time, &write)
                .await
                .rate(),
        );
        let mut following = JoinSet::new();
        let mut silent = Vec::new();
        for number in 0..WATCHERS {
            let mut client = ChangeServiceClient::new(server.connect().await);
            let feed = client
                .watch_changes(pb::WatchChangesRequest::default())
                .await;
            let mut feed = feed.expect("followed").into_inner();
            if number % 2 == 0 {
                silent.push(feed);
            } else {
                following.spawn(async move { while let Ok(Some(_)) = feed.message().await {} });
            }
        }
        beside.push(
            closed_loop(&channels, WRITERS, run.time, &write)
                .await
                .rate(),
        );
        memory.push(server.memory(false));
        following.shutdown().await;
    }
    let what =
        format!("writes, {WRITERS} callers, beside {WATCHERS} followers, half of whom never read");
    let row = speed(
        "followers",
        &what,
        "writes alone",
        Target::AtLeast(0.8),
        (&*beside, &*alone),
    );
    let memory = MedianRange::of(&memory);
    let note = format!(
        "{}; memory {:.0} to {:.0} MiB",
        row.note, memory.least, memory.most
    );
    run.report.add(Row { note, ..row });
}

/// A history of a million changes against a short one, and the cost of expiring half of it.
pub(super) async fn history(run: &mut Run) {
    let short = Size {
        changes: 1000,
        ..SMALL
    };
    let long = Size {
        changes: HISTORY,
        ..SMALL
    };
    let short = Directory::make(&run.path("short.db"), short);
    let long = Directory::make(&run.path("long.db"), long);
    let servers = [&short, &long].map(|directory| Server::start_sqlite(&directory.path, &[]));
    let of_short = channels(servers[0].address()).await;
    let of_long = channels(servers[1].address()).await;
    let (write_short, write_long) = (assign_user(&short), assign_user(&long));
    let (ours, theirs) = alternate(
        run.rounds,
        async || closed_loop(&of_long, 1, run.time, &write_long).await,
        async || closed_loop(&of_short, 1, run.time, &write_short).await,
    )
    .await;
    let target = Target::AtLeast(0.8);
    let what = format!("AssignUser, 1 caller, with {HISTORY} changes");
    let pair = (&*rates(&ours), &*rates(&theirs));
    run.report
        .add(speed("history", &what, "with 1,000", target, pair));
    for (page, order_by) in [("first", "revision"), ("last", "revision desc")] {
        let list = list(order_by);
        let (ours, theirs) = alternate(
            run.rounds,
            async || closed_loop(&of_long, 1, run.time / 4, &list).await,
            async || closed_loop(&of_short, 1, run.time / 4, &list).await,
        )
        .await;
        let what = format!("ListChanges, {page} page, with {HISTORY} changes");
        let pair = (&*rates(&ours), &*rates(&theirs));
        run.report
            .add(speed("history", &what, "with 1,000", target, pair));
    }
    let quiet: Vec<_> = measure_writes(run, &of_long, &write_long).await;
    drop((of_long, servers));
    expiring(run, &long, &quiet).await;
}

/// Half of the changes are older than the retention.
async fn expiring(run: &mut Run, directory: &Directory, quiet: &[f64]) {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let kept = now.as_secs() - (EPOCH_MILLIS + HISTORY / 2) / 1000;
    let server = Server::start_sqlite(
        &directory.path,
        &["--changes-retention", &format!("{kept}s")],
    );
    let started = Instant::now();
    let channels = channels(server.address()).await;
    let write = assign_user(directory);
    tokio::time::sleep(EXPIRY).await;
    let expiring = measure_writes(run, &channels, &write).await;
    let oldest = oldest(&channels[0]).await;
    let what = format!(
        "{WRITERS} writers' p99 while {} changes expire",
        HISTORY / 2
    );
    let row = latency(
        "history",
        &what,
        "quiet",
        Target::AtMost(3.0),
        (&*expiring, quiet),
    );
    let seconds = started.elapsed().as_secs();
    let note = format!(
        "{}; after {seconds} s the oldest is revision {oldest}",
        row.note
    );
    run.report.add(Row { note, ..row });
}

async fn measure_writes(run: &Run, channels: &[Channel], write: &crate::calls::Call) -> Vec<f64> {
    let mut measured = Vec::new();
    for _ in 0..run.rounds {
        measured.push(closed_loop(channels, WRITERS, run.time, write).await);
    }
    within(&measured, 0.99)
}

fn list(order_by: &'static str) -> crate::calls::Call {
    call(move |channel, _| async move {
        let request = pb::ListChangesRequest {
            page_size: 100,
            order_by: order_by.to_owned(),
            ..Default::default()
        };
        let page = ChangeServiceClient::new(channel)
            .list_changes(request)
            .await;
        page.expect("listed");
    })
}

async fn oldest(channel: &Channel) -> i64 {
    let request = pb::ListChangesRequest {
        page_size: 1,
        ..Default::default()
    };
    let page = ChangeServiceClient::new(channel.clone())
        .list_changes(request)
        .await;
    page.expect("listed").into_inner().changes[0].revision
}
