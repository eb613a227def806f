//! Statistics of a phase of load.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::mix::Outcome;
use crate::load::{histogram, record};

/// Duration of a window.
pub(crate) const WINDOW: Duration = Duration::from_millis(100);

/// Results of a phase; latencies in ms.
#[derive(Clone, Debug)]
pub(crate) struct Phase {
    /// Calls per second: arrived, accepted, rejected.
    pub(crate) arrived: f64,
    pub(crate) accepted: f64,
    pub(crate) refused: f64,
    /// Calls per second that weren't made, because too many were in flight.
    pub(crate) dropped: f64,
    /// Latency of accepted calls from sending to response: p50 and p99.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    /// p99 of the latency of accepted calls from their intended arrival.
    pub(crate) p99_from_arrival: f64,
    /// Latency of rejected calls: p99 and maximum.
    pub(crate) refused_p99: f64,
    pub(crate) refused_longest: f64,
    /// p99 of the delay between intended arrival and sending, caused by this process.
    pub(crate) late_p99: f64,
    /// Cores used by the server and by this process.
    pub(crate) server: f64,
    pub(crate) generator: f64,
    /// Number of health checks, and the longest latency of one.
    pub(crate) health: f64,
    pub(crate) health_longest: f64,
    /// p99 of the accepted calls of each window; `None` if a call in it was rejected, or none was accepted.
    pub(crate) windows: Vec<Option<f64>>,
}

impl Phase {
    pub(super) fn text(tallies: Vec<Tally>) -> String {
        let phases = tallies.into_iter().map(Tally::phase);
        Value::Array(phases.collect()).to_string()
    }

    pub(super) fn parse(text: &str) -> Vec<Self> {
        let phases: Vec<Value> = serde_json::from_str(text).expect("JSON");
        let phases = phases.iter().map(|phase| {
            let number = |name: &str| phase[name].as_f64().expect("a number");
            let windows = phase["windows"].as_array().expect("an array");
            Self {
                arrived: number("arrived"),
                accepted: number("accepted"),
                refused: number("refused"),
                dropped: number("dropped"),
                p50: number("p50"),
                p99: number("p99"),
                p99_from_arrival: number("p99_from_arrival"),
                refused_p99: number("refused_p99"),
                refused_longest: number("refused_longest"),
                late_p99: number("late_p99"),
                server: number("server"),
                generator: number("generator"),
                health: number("health"),
                health_longest: number("health_longest"),
                windows: windows.iter().map(Value::as_f64).collect(),
            }
        });
        phases.collect()
    }
}

/// Timestamps of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Times {
    /// Start of the phase.
    pub(super) begin: Instant,
    /// Intended arrival.
    pub(super) intended: Instant,
    pub(super) sent: Instant,
    pub(super) answered: Instant,
}

/// Running statistics of a phase.
#[derive(Debug)]
pub(super) struct Tally {
    time: Duration,
    pub(super) dropped: u64,
    accepted: Histogram<u64>,
    accepted_from_arrival: Histogram<u64>,
    refused: Histogram<u64>,
    late: Histogram<u64>,
    health: Histogram<u64>,
    cpu_usage: [f64; 2],
    /// For each window: the latencies of accepted calls, and the number of rejected ones.
    windows: Vec<(Vec<Duration>, u64)>,
}

impl Tally {
    pub(super) fn new(time: Duration) -> Self {
        let windows = time.as_nanos().div_ceil(WINDOW.as_nanos());
        Self {
            time,
            dropped: 0,
            accepted: histogram(),
            accepted_from_arrival: histogram(),
            refused: histogram(),
            late: histogram(),
            health: histogram(),
            cpu_usage: [0.0; 2],
            windows: vec![(Vec::new(), 0); windows as usize],
        }
    }

    pub(super) fn add(&mut self, outcome: Outcome, times: &Times) {
        let Times {
            begin,
            intended,
            sent,
            answered,
        } = *times;
        let window = intended.duration_since(begin).as_nanos() / WINDOW.as_nanos();
        let (accepted, refused) = &mut self.windows[window as usize];
        let took = answered.duration_since(sent);
        record(&mut self.late, sent.duration_since(intended));
        match outcome {
            Outcome::Accepted => {
                record(&mut self.accepted, took);
                record(
                    &mut self.accepted_from_arrival,
                    answered.duration_since(intended),
                );
                accepted.push(took);
            }
            Outcome::Refused => {
                record(&mut self.refused, took);
                *refused += 1;
            }
        }
    }

    pub(super) fn health(&mut self, took: Duration) {
        record(&mut self.health, took);
    }

    /// Records the processor time of the server and of this process, from its values before and after the phase.
    pub(super) fn cpu_usage(&mut self, before: [Duration; 2], after: [Duration; 2]) {
        let share = |which: usize| (after[which] - before[which]).as_secs_f64();
        self.cpu_usage = [0, 1].map(|which| share(which) / self.time.as_secs_f64());
    }

    fn phase(self) -> Value {
        let seconds = self.time.as_secs_f64();
        let a_second = |count: u64| count as f64 / seconds;
        let ms = |nanos: u64| nanos as f64 / 1e6;
        let p99 = |histogram: &Histogram<u64>| ms(histogram.value_at_quantile(0.99));
        let answered = self.accepted.len() + self.refused.len();
        let windows = self.windows.into_iter().map(|(mut accepted, refused)| {
            accepted.sort_unstable();
            let place = (accepted.len() * 99).div_ceil(100);
            let p99 = accepted.get(place.wrapping_sub(1));
            let p99 = p99.filter(|_| refused == 0);
            p99.map(|took| took.as_secs_f64() * 1e3)
        });
        json!({
            "arrived": a_second(answered + self.dropped),
            "accepted": a_second(self.accepted.len()),
            "refused": a_second(self.refused.len()),
            "dropped": self.dropped,
            "p50": ms(self.accepted.value_at_quantile(0.5)),
            "p99": p99(&self.accepted),
            "p99_from_arrival": p99(&self.accepted_from_arrival),
            "refused_p99": p99(&self.refused),
            "refused_longest": ms(self.refused.max()),
            "late_p99": p99(&self.late),
            "server": self.cpu_usage[0],
            "generator": self.cpu_usage[1],
            "health": self.health.len(),
            "health_longest": ms(self.health.max()),
            "windows": windows.collect::<Vec<_>>(),
        })
    }
}
