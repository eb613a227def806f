//! Load: callers who each wait for an answer before they ask again, and arrivals that wait for nobody.

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

/// What goes before each round without being counted: connections and caches get warm.
pub(crate) const WARM_UP: Duration = Duration::from_millis(300);
/// How many arrivals can be under way at once; those beyond wait, and their wait counts.
const UNDER_WAY: usize = 256;
/// A call that takes longer counts as this long.
const LONGEST: Duration = Duration::from_secs(60);

/// What a round has seen.
#[derive(Debug)]
pub(crate) struct Seen {
    time: Duration,
    latency: Histogram<u64>,
}

impl Seen {
    /// Calls a second.
    pub(crate) fn rate(&self) -> f64 {
        self.latency.len() as f64 / self.time.as_secs_f64()
    }

    /// The latency that this share of the calls stayed within, in ms.
    pub(crate) fn within(&self, share: f64) -> f64 {
        self.latency.value_at_quantile(share) as f64 / 1e6
    }
}

/// A histogram of nanoseconds, to three digits.
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

/// A number that no other call of this run has.
pub(crate) fn number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Closed loop: each caller asks again when it is answered. They share the connections evenly.
pub(crate) async fn closed(
    channels: &[Channel],
    callers: usize,
    time: Duration,
    call: &Call,
) -> Seen {
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
    Seen {
        time,
        latency: merged(tasks).await,
    }
}

/// Open loop: calls arrive at a fixed rate, whatever becomes of those before them. A latency counts from when
/// the call should have begun, so that a stall shows in all calls that it held up.
pub(crate) async fn open(channels: &[Channel], rate: f64, time: Duration, call: &Call) -> Seen {
    let total = (rate * (WARM_UP + time).as_secs_f64()) as u64;
    let begin = Instant::now();
    let counted = begin + WARM_UP;
    let due = Arc::new(Semaphore::new(0));
    let taken = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for caller in 0..UNDER_WAY {
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
    // A thread of its own: the runtime's timer knows milliseconds only.
    let pace = std::thread::spawn(move || {
        for arrival in 0..total {
            let intended = begin + Duration::from_secs_f64(arrival as f64 / rate);
            std::thread::sleep(intended.saturating_duration_since(Instant::now()));
            due.add_permits(1);
        }
        // Those who wait for more find out that there is none.
        due.add_permits(UNDER_WAY);
    });
    let latency = merged(tasks).await;
    pace.join().expect("it only sleeps");
    Seen { time, latency }
}

async fn merged(mut tasks: JoinSet<Histogram<u64>>) -> Histogram<u64> {
    let mut all = histogram();
    while let Some(latency) = tasks.join_next().await {
        all.add(latency.expect("answered"))
            .expect("the same bounds");
    }
    all
}
