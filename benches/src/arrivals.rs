//! Calls that arrive whatever becomes of those before them, more than the server can take if that is wanted: from a
//! process of its own on a core of its own, so that neither takes the other's time.

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
    child::Helper,
    load::{WARM_UP, number},
    server::{channels, processor_time},
};

const CHANNELS: usize = 8;
/// How many calls can be under way at once. One more that arrives is dropped, and that is told: fewer than the server
/// takes at once on so many connections.
const UNDER_WAY: usize = 6000;
/// How long a caller waits who was refused.
const REFUSED_PAUSE: Duration = Duration::from_millis(10);
/// How often it is asked for its health.
const HEALTH_INTERVAL: Duration = Duration::from_millis(50);

/// A process that makes calls of one mix as it is told to.
#[derive(Debug)]
pub(crate) struct Arrivals(Helper);

impl Arrivals {
    /// Starts it on these cores; `server` is the process that is at the address.
    pub(crate) fn start(address: &str, server: u32, mix: Mix, cores: &str) -> Self {
        let server = server.to_string();
        let arguments = [address, &server, mix.name()];
        Self(Helper::start("arrivals", &arguments, Some(cores)))
    }

    /// Callers who each wait for an answer before they ask again: calls a second that weren't refused.
    pub(crate) fn closed(&mut self, callers: usize, time: Duration) -> f64 {
        let command = format!("closed {callers} {}\n", time.as_millis());
        self.0.send(command.as_bytes());
        self.0.line().parse().expect("a number")
    }

    /// Arrivals at these rates for these times, one after the other without a pause.
    pub(crate) fn open(&mut self, phases: &[(f64, Duration)]) -> Vec<Phase> {
        let phases = phases.iter();
        let phases: String = phases
            .map(|(rate, time)| format!(" {rate} {}", time.as_millis()))
            .collect();
        self.0.send(format!("open{phases}\n").as_bytes());
        Phase::parse(&self.0.line())
    }
}

/// The process.
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
        under_way: AtomicUsize::new(0),
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
                closed(&load, numbers[0] as usize, time(numbers[1])).await
            );
        } else {
            let phases = numbers.chunks(2).map(|pair| (pair[0], time(pair[1])));
            println!("{}", Phase::text(open(&load, phases.collect()).await));
        }
    }
}

struct Load {
    channels: Vec<Channel>,
    /// A connection that nothing else uses, as a probe has one.
    health: Channel,
    attempt: Attempt,
    server: u32,
    under_way: AtomicUsize,
    /// Of each phase.
    tallies: Mutex<Vec<Tally>>,
}

impl Load {
    fn note(&self, phase: usize, note: impl FnOnce(&mut Tally)) {
        let mut tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        note(&mut tallies[phase]);
    }

    fn channel(&self, number: u64) -> Channel {
        self.channels[(number % CHANNELS as u64) as usize].clone()
    }

    /// The processor time of the server, and of this process.
    fn taken(&self) -> [Duration; 2] {
        [self.server, std::process::id()].map(processor_time)
    }
}

async fn closed(load: &Arc<Load>, callers: usize, time: Duration) -> f64 {
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
                    // The same again, or the mix would become one of what is refused least. After a pause, as callers
                    // should: whoever asks at once takes the server's time for nothing.
                    Outcome::Refused => tokio::time::sleep(REFUSED_PAUSE).await,
                }
            }
        });
    }
    let accepted: u64 = tasks.join_all().await.iter().sum();
    accepted as f64 / time.as_secs_f64()
}

async fn open(load: &Arc<Load>, phases: Vec<(f64, Duration)>) -> Vec<Tally> {
    let tallies = phases.iter().map(|(_, time)| Tally::new(*time));
    *load.tallies.lock().unwrap_or_else(PoisonError::into_inner) = tallies.collect();
    let (running, mut ended) = mpsc::channel(1);
    // A thread of its own: the runtime's timer knows milliseconds only.
    let pace = std::thread::spawn({
        let (load, runtime) = (load.clone(), Handle::current());
        move || pace(&load, &runtime, &phases, running)
    });
    // Nothing is ever sent: it ends with the last of those who could.
    let _: Option<()> = ended.recv().await;
    pace.join().expect("it only sleeps");
    let mut tallies = load.tallies.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut tallies)
}

/// Lets calls arrive, as independently of each other as those of many callers (a Poisson process): so much apart that
/// the rate comes out on average. The same ones in every run.
fn pace(load: &Arc<Load>, runtime: &Handle, phases: &[(f64, Duration)], running: mpsc::Sender<()>) {
    let mut begin = Instant::now();
    let mut random = 0;
    for (phase, (rate, time)) in phases.iter().enumerate() {
        let asking = runtime.spawn(ask_for_health(load.clone(), phase));
        let before = load.taken();
        let mut intended = begin;
        loop {
            intended += Duration::from_secs_f64(-unit(&mut random).ln() / rate);
            if intended >= begin + *time {
                break;
            }
            std::thread::sleep(intended.saturating_duration_since(Instant::now()));
            if load.under_way.fetch_add(1, Ordering::Relaxed) >= UNDER_WAY {
                load.under_way.fetch_sub(1, Ordering::Relaxed);
                load.note(phase, |tally| tally.dropped += 1);
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
                load.note(phase, |tally| tally.add(outcome, &times));
                load.under_way.fetch_sub(1, Ordering::Relaxed);
                drop(running);
            });
        }
        begin += *time;
        std::thread::sleep(begin.saturating_duration_since(Instant::now()));
        let after = load.taken();
        load.note(phase, |tally| tally.took(before, after));
        asking.abort();
    }
}

/// Asks again and again, a moment after each answer. One that doesn't come, or says anything else, ends the run.
async fn ask_for_health(load: Arc<Load>, phase: usize) {
    let mut client = HealthClient::new(load.health.clone());
    loop {
        let asked = Instant::now();
        let answer = client.check(HealthCheckRequest::default());
        match tokio::time::timeout(Duration::from_secs(10), answer).await {
            Ok(Ok(answer)) if answer.get_ref().status() == ServingStatus::Serving => {}
            other => end(&format!("it isn't healthy: {other:?}")),
        }
        load.note(phase, |tally| tally.health(asked.elapsed()));
        tokio::time::sleep(HEALTH_INTERVAL).await;
    }
}

/// Between 0 and 1, without 0. `SplitMix64`, from Steele, Lea and Flood: Fast Splittable Pseudorandom Number Generators.
fn unit(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (((z ^ (z >> 31)) >> 11) as f64 + 1.0) / (1_u64 << 53) as f64
}

/// Ends this process, and with it the run.
fn end(reason: &str) -> ! {
    eprintln!("{reason}");
    std::process::exit(1);
}
