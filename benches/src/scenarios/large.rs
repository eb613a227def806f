//! Every RPC on a large directory against a small one.

mod members;
mod reads;
mod writes;

use std::{
    pin::Pin,
    time::{Duration, Instant},
};

use crate::channel::Channel;

use super::{latency, small};
use crate::{
    Run,
    directory::Directory,
    load::{histogram, record},
    report::Target,
    rounds::{alternate, median},
    server::Server,
};

/// Minimum number of calls in a round.
const MIN_ROUNDS: u32 = 3;

/// Makes one call on a connection, with a number; returns its duration, without the preparation of its data.
type Timed = Box<dyn Fn(Channel, u64) -> Pin<Box<dyn Future<Output = Duration>>>>;

/// An RPC with its requests.
struct Rpc {
    name: &'static str,
    timed: Timed,
}

fn rpc<F, R>(name: &'static str, timed: F) -> Rpc
where
    F: Fn(Channel, u64) -> R + 'static,
    R: Future<Output = Duration> + 'static,
{
    let timed = Box::new(
        move |channel, number| -> Pin<Box<dyn Future<Output = Duration>>> {
            Box::pin(timed(channel, number))
        },
    );
    Rpc { name, timed }
}

/// Awaits a call that must succeed; returns its response and its duration.
async fn time<T>(
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> (T, Duration) {
    let began = Instant::now();
    let answer = call.await;
    let took = began.elapsed();
    (answer.expect("answered").into_inner(), took)
}

/// Measures the median duration of each RPC with one caller, a quarter of a round on each directory. Requests are
/// evenly distributed over each directory, with the same number of different ones.
pub(super) async fn every_rpc(run: &mut Run) {
    let (large, small) = (super::large(run), small(run, "small"));
    let servers = [&large, &small].map(|directory| Server::start_sqlite(&directory.path, &[]));
    let [on_large, on_small] = [servers[0].connect().await, servers[1].connect().await];
    let rpcs = |directory: &Directory| {
        let mut rpcs = reads::rpcs(directory);
        rpcs.extend(members::rpcs(directory));
        rpcs.extend(writes::rpcs(directory));
        rpcs
    };
    for (ours, theirs) in rpcs(&large).iter().zip(&rpcs(&small)) {
        // The first calls warm the caches.
        round(&on_large, ours, 0, Duration::ZERO).await;
        round(&on_small, theirs, 0, Duration::ZERO).await;
        let (mut here, mut there) = (0, 0);
        let (of_ours, of_theirs) = alternate(
            run.rounds,
            async || {
                here += 1;
                round(&on_large, ours, here, run.time / 4).await
            },
            async || {
                there += 1;
                round(&on_small, theirs, there, run.time / 4).await
            },
        )
        .await;
        let searched = ours.name.contains("search");
        // Speed is the inverse of time.
        let target = Target::AtLeast(if searched { 0.5 } else { 0.9 });
        let row = latency("large", ours.name, "", target, (&*of_theirs, &*of_ours));
        let what = format!("{}, large directory, speed", ours.name);
        let note = format!("{:.2} ms to {:.2} ms", median(&of_ours), median(&of_theirs));
        run.report.add(crate::report::Row {
            what,
            against: "small".to_owned(),
            note,
            ..row
        });
    }
}

/// The median duration in ms of the calls made in this time, of which there are at least [`MIN_ROUNDS`].
async fn round(channel: &Channel, rpc: &Rpc, round: u64, lasts: Duration) -> f64 {
    let (mut measured, began) = (histogram(), Instant::now());
    for number in 0.. {
        if number >= MIN_ROUNDS && began.elapsed() >= lasts {
            break;
        }
        let number = (round << 20) + u64::from(number);
        record(&mut measured, (rpc.timed)(channel.clone(), number).await);
    }
    measured.value_at_quantile(0.5) as f64 / 1e6
}
