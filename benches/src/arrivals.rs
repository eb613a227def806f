//! An open-loop load generator: calls arrive independently of earlier responses, possibly faster than the server
//! can handle. It is a separate process on its own core, so that neither takes the other's processor time.

mod mix;
mod phase;

use std::{
    io::BufRead,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::mpsc, task::JoinSet};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use self::{
    mix::{Attempt, Outcome, attempt},
    phase::Tally,
};
pub(crate) use self::{
    mix::{Mix, SIZE},
    phase::{Phase, WINDOW},
};
use crate::{
    channel::Channel,
    child::ChildProcess,
    load::{WARM_UP, number},
    server::{channels, processor_time},
};

const CHANNELS: usize = 8;
/// Maximum number of in-flight calls; further arrivals are dropped and reported. Below the stream limit of the
/// server on all connections together.
const MAX_IN_FLIGHT: usize = 6000;
/// Pause of a closed-loop caller after a rejection.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);
/// Interval of health checks.
const HEALTH_INTERVAL: Duration = Duration::from_millis(50);

/// A load generator process for one mix of calls.
#[derive(Debug)]
pub(crate) struct LoadGenerator(ChildProcess);

impl LoadGenerator {
    /// Starts the process on these cores; `server` is the id of the server's process.
    pub(crate) fn start(address: &str, server: u32, mix: Mix, cores: &str) -> Self {
        let server = server.to_string();
        let arguments = [address, &server, mix.name()];
        Self(ChildProcess::start("arrivals", &arguments, Some(cores)))
    }

    /// Runs callers that each wait for a response before the next call; returns accepted calls per second.
    pub(crate) fn closed_loop(&mut self, callers: usize, time: Duration) -> f64 {
        let command = format!("closed {callers} {}\n", time.as_millis());
        self.0.send(command.as_bytes());
        self.0.line().parse().expect("a number")
    }

    /// Generates arrivals at these rates (calls per second) for these durations, without pauses in between.
    pub(crate) fn open_loop(&mut self, phases: &[(f64, Duration)]) -> Vec<Phase> {
        let phases = phases.iter();
        let phases: String = phases
            .map(|(rate, time)| format!(" {rate} {}", time.as_millis()))
            .collect();
        self.0.send(format!("open{phases}\n").as_bytes());
        Phase::parse(&self.0.line())
    }
}

/// Main function of the load generator process.
pub(crate) fn main(arguments: &[String]) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(serve(arguments));
}

async fn serve(arguments: &[String]) {
    let [address, server, mix] = arguments else {
        panic!("three arguments");
    };
    let load = Arc::new(Load {
        channels: channels(address, CHANNELS).await,
        health: Channel::connect(address).await,
        attempt: attempt(Mix::parse(mix)),
        server: server.parse().expect("a number"),
        in_flight: AtomicUsize::new(0),
        tallies: Mutex::default(),
    });
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("text");
        let mut words = line.split(' ');
        let command = words.next();
        let numbers: Vec<f64> = words.map(|word| word.parse().expect("a number")).collect();
        let time = |ms: f64| Duration::from_secs_f64(ms / 1000.0);
        if command == Some("closed") {
            println!(
                "{}",
                closed_loop(&load, numbers[0] as usize, time(numbers[1])).await
            );
        } else {
            let phases = numbers.chunks(2).map(|pair| (pair[0], time(pair[1])));
            println!("{}", Phase::text(open_loop(&load, phases.collect()).await));
        }
    }
}

struct Load {
    channels: Vec<Channel>,
    /// A separate connection for health checks, as a probe has.
    health: Channel,
    attempt: Attempt,
    server: u32,
    in_flight: AtomicUsize,
    /// One tally per phase.
    tallies: Mutex<Vec<Tally>>,
}

impl Load {
    fn record(&self, phase: usize, note: impl FnOnce(&mut Tally)) {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        note(&mut tallies[phase]);
    }

    fn channel(&self, number: u64) -> Channel {
        self.channels[(number % CHANNELS as u64) as usize].clone()
    }

    /// Processor time of the server and of this process.
    fn cpu_times(&self) -> [Duration; 2] {
        [self.server, std::process::id()].map(processor_time)
    }
}

async fn closed_loop(load: &Arc<Load>, callers: usize, time: Duration) -> f64 {
    let begin = Instant::now() + WARM_UP;
    let end = begin + time;
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let (load, channel) = (load.clone(), load.channel(caller as u64));
        tasks.spawn(async move {
            let mut accepted = 0_u64;
            let mut next = number();
            loop {
                let outcome = (load.attempt)(channel.clone(), next).await;
                let now = Instant::now();
                if now >= end {
                    return accepted;
                }
                match outcome {
                    Outcome::Accepted => {
                        accepted += u64::from(now >= begin);
                        next = number();
                    }
                    // Retry the same call: otherwise the mix would shift to the calls that are rejected least.
                    // After a pause, as clients should: immediate retries only waste the server's processor time.
                    Outcome::Refused => tokio::time::sleep(REFUSED_PAUSE).await,
                }
            }
        });
    }
    let accepted: u64 = tasks.join_all().await.iter().sum();
    accepted as f64 / time.as_secs_f64()
}

async fn open_loop(load: &Arc<Load>, phases: Vec<(f64, Duration)>) -> Vec<Tally> {
    let tallies = phases.iter().map(|(_, time)| Tally::new(*time));
    *load.tallies.lock().unwrap_or_else(PoisonError::into_inner) = tallies.collect();
    let (running, mut ended) = mpsc::channel(1);
    // On a separate thread: the runtime's timer has a resolution of a millisecond.
    let pace = std::thread::spawn({
        let (load, runtime) = (load.clone(), Handle::current());
        move || generate_arrivals(&load, &runtime, &phases, running)
    });
    // No message is ever sent: the channel closes when the last in-flight call ends.
    let _: Option<()> = ended.recv().await;
    pace.join().expect("it only sleeps");
    let mut tallies = load.tallies.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut tallies)
}

/// Generates arrivals as a Poisson process with the given mean rates, like many independent callers. The random
/// numbers are the same in every run.
fn generate_arrivals(
    load: &Arc<Load>,
    runtime: &Handle,
    phases: &[(f64, Duration)],
    running: mpsc::Sender<()>,
) {
    let mut begin = Instant::now();
    let mut random = 0;
    for (phase, (rate, time)) in phases.iter().enumerate() {
        let asking = runtime.spawn(probe_health(load.clone(), phase));
        let before = load.cpu_times();
        let mut intended = begin;
        loop {
            intended += Duration::from_secs_f64(-unit(&mut random).ln() / rate);
            if intended >= begin + *time {
                break;
            }
            std::thread::sleep(intended.saturating_duration_since(Instant::now()));
            if load.in_flight.fetch_add(1, Ordering::Relaxed) >= MAX_IN_FLIGHT {
                load.in_flight.fetch_sub(1, Ordering::Relaxed);
                load.record(phase, |tally| tally.dropped += 1);
                continue;
            }
            let (load, running) = (load.clone(), running.clone());
            runtime.spawn(async move {
                let sent = Instant::now();
                let number = number();
                let outcome = (load.attempt)(load.channel(number), number).await;
                let times = phase::Times {
                    begin,
                    intended,
                    sent,
                    answered: Instant::now(),
                };
                load.record(phase, |tally| tally.add(outcome, &times));
                load.in_flight.fetch_sub(1, Ordering::Relaxed);
                drop(running);
            });
        }
        begin += *time;
        std::thread::sleep(begin.saturating_duration_since(Instant::now()));
        let after = load.cpu_times();
        load.record(phase, |tally| tally.cpu_usage(before, after));
        asking.abort();
    }
}

/// Repeats health checks, with an interval after each response. A timeout, or any status but SERVING, ends the run.
async fn probe_health(load: Arc<Load>, phase: usize) {
    let mut client = HealthClient::new(load.health.clone());
    loop {
        let asked = Instant::now();
        let answer = client.check(HealthCheckRequest::default());
        match tokio::time::timeout(Duration::from_secs(10), answer).await {
            Ok(Ok(answer)) if answer.get_ref().status() == ServingStatus::Serving => {}
            other => end(&format!("it isn't healthy: {other:?}")),
        }
        load.record(phase, |tally| tally.health(asked.elapsed()));
        tokio::time::sleep(HEALTH_INTERVAL).await;
    }
}

/// A random number in (0, 1]: `SplitMix64`, from Steele, Lea and Flood: Fast Splittable Pseudorandom Number Generators.
fn unit(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (((z ^ (z >> 31)) >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
}

/// Ends this process, which ends the run.
fn end(reason: &str) -> ! {
    eprintln!("{reason}");
    std::process::exit(1);
}
