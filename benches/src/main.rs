//! Benchmarks: measures the service against baselines, and prints the table of docs/performance.md.
//!
//! Absolute numbers mean little on a shared machine, so most rows are ratios of medians, from rounds that alternate
//! with those of the baseline in one run. The server and the baselines are separate processes.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that can't go on ends, and its result is what it prints"
)]

mod arrivals;
mod bare;
mod caller;
mod calls;
mod channel;
mod child;
mod directory;
mod load;
mod machine;
mod openfga;
mod postgres;
mod raw;
mod report;
mod rounds;
mod scenarios;
mod server;
mod stage;

use std::{path::PathBuf, process::Command, time::Duration};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use machine::Machine;
use report::Report;
use scenarios::Scenario;

/// Measures group-service against baselines, and prints the table of docs/performance.md
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Options {
    /// Scenarios to run; all but `soak` by default
    #[arg(value_enum)]
    scenarios: Vec<Scenario>,
    /// Number of rounds of each scenario, alternating with those of its baseline
    #[arg(long, default_value_t = 7, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Duration of a round, in seconds
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Where to keep the large directory for later runs; by default it is created for each run and removed afterwards
    #[arg(long, value_name = "DIR")]
    large_dir: Option<PathBuf>,
}

/// A run: its options, its files and its results.
#[derive(Debug)]
struct Run {
    rounds: usize,
    time: Duration,
    /// Removed at the end with all its files.
    dir: tempfile::TempDir,
    large_dir: Option<PathBuf>,
    report: Report,
}

impl Run {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some(child::CHILD_ARGUMENT) {
        return child::main(arguments.collect());
    }
    let options = Options::parse();
    build();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).expect("signals");
        // On a signal, too, processes are ended and files removed.
        tokio::select! {
            () = run(options) => {}
            _ = tokio::signal::ctrl_c() => eprintln!("stopped"),
            _ = terminate.recv() => eprintln!("stopped"),
        }
    });
}

/// Builds the server from the current sources, in release mode as users do.
fn build() {
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--package", "group-service"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .status();
    assert!(
        status.expect("cargo runs").success(),
        "no server to measure"
    );
}

async fn run(options: Options) {
    let mut scenarios = options.scenarios;
    if scenarios.is_empty() {
        scenarios = Scenario::all();
    }
    let mut run = Run {
        rounds: options.rounds as usize,
        time: Duration::from_secs(options.seconds),
        dir: tempfile::Builder::new()
            .prefix("group-service-bench-")
            .tempdir()
            .expect("a directory"),
        large_dir: options.large_dir,
        report: Report::default(),
    };
    let machine = Machine::look(run.dir.path());
    eprintln!("{machine}");
    for scenario in scenarios {
        scenario.measure(&mut run).await;
    }
    let Run {
        report,
        rounds,
        time,
        ..
    } = run;
    let machine = machine.ended();
    if options.json {
        println!("{}", report.json(&machine, rounds, time));
    } else {
        println!("{}", report.table(&machine, rounds, time));
    }
}
