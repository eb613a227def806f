//! Closed-loop and open-loop load.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::channel::Channel;
use hdrhistogram::Histogram;
use tokio::{sync::Semaphore, task::JoinSet};

use crate::calls::Call;

/// Warm-up of connections and caches before each round; not measured.
pub(crate) const WARM_UP: Duration = Duration::from_millis(300);
/// Maximum number of in-flight calls of the open loop; further arrivals wait, and their wait counts as latency.
const MAX_IN_FLIGHT: usize = 256;
/// Upper bound of recorded latencies.
const LONGEST: Duration = Duration::from_secs(60);

/// Results of a round.
#[derive(Debug)]
pub(crate) struct LoadResult {
    time: Duration,
    latency: Histogram<u64>,
}

impl LoadResult {
    /// Calls per second.
    pub(crate) fn rate(&self) -> f64 {
        self.latency.len() as f64 / self.time.as_secs_f64()
    }

    /// The latency at this quantile, in ms.
    pub(crate) fn within(&self, share: f64) -> f64 {
        self.latency.value_at_quantile(share) as f64 / 1e6
    }
}

/// A histogram of nanoseconds with three significant digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1000, nanos(LONGEST), 3).expect("bounds")
}

/// Adds a latency to a histogram.
pub(crate) fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record(nanos(latency));
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A number that is unique in this run.
pub(crate) fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Closed loop: each caller makes its next call after the response. The callers share the connections evenly.
pub(crate) async fn closed_loop(
    channels: &[Channel],
    callers: usize,
    time: Duration,
    call: &Call,
) -> LoadResult {
    let begin = Instant::now() + WARM_UP;
    let end = begin + time;
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let (channel, call) = (channels[caller % channels.len()].clone(), call.clone());
        tasks.spawn(async move {
            let mut latency = histogram();
            loop {
                let start = Instant::now();
                if start >= end {
                    return latency;
                }
                call(channel.clone(), number()).await;
                if start >= begin {
                    record(&mut latency, start.elapsed());
                }
            }
        });
    }
    LoadResult {
        time,
        latency: merged(tasks).await,
    }
}

/// Open loop: calls arrive at a fixed rate, independently of earlier responses. Latency is measured from the
/// intended arrival, so that a stall shows in all calls that it delays.
pub(crate) async fn open_loop(
    channels: &[Channel],
    rate: f64,
    time: Duration,
    call: &Call,
) -> LoadResult {
    let total = (rate * (WARM_UP + time).as_secs_f64()) as u64;
    let begin = Instant::now();
    let counted = begin + WARM_UP;
    let due = Arc::new(Semaphore::new(0));
    let taken = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for caller in 0..MAX_IN_FLIGHT {
        let (channel, call) = (channels[caller % channels.len()].clone(), call.clone());
        let (due, taken) = (due.clone(), taken.clone());
        tasks.spawn(async move {
            let mut latency = histogram();
            loop {
                due.acquire().await.expect("never closed").forget();
                let arrival = taken.fetch_add(1, Ordering::Relaxed);
                if arrival >= total {
                    return latency;
                }
                let intended = begin + Duration::from_secs_f64(arrival as f64 / rate);
                call(channel.clone(), number()).await;
                if intended >= counted {
                    record(&mut latency, intended.elapsed());
                }
            }
        });
    }
    // On a separate thread: the runtime's timer has a resolution of a millisecond.
    let pace = std::thread::spawn(move || {
        for arrival in 0..total {
            let intended = begin + Duration::from_secs_f64(arrival as f64 / rate);
            std::thread::sleep(intended.saturating_duration_since(Instant::now()));
            due.add_permits(1);
        }
        // Wakes the remaining callers, so that they end.
        due.add_permits(MAX_IN_FLIGHT);
    });
    let latency = merged(tasks).await;
    pace.join().expect("it only sleeps");
    LoadResult { time, latency }
}

async fn merged(mut tasks: JoinSet<Histogram<u64>>) -> Histogram<u64> {
    let mut all = histogram();
    while let Some(latency) = tasks.join_next().await {
        all.add(latency.expect("answered"))
            .expect("the same bounds");
    }
    all
}
