//! What the service costs, as ratios: fills the table of docs/performance.md.
//!
//! Single figures mean little on a machine that others share, so every line is a ratio of medians, from rounds
//! that alternate with those of its baseline in one run. Server and baselines are processes of their own.
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
mod lines;
mod load;
mod machine;
mod openfga;
mod postgres;
mod raw;
mod report;
mod rounds;
mod server;
mod stage;

use std::{path::PathBuf, process::Command, time::Duration};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use lines::Line;
use machine::Machine;
use report::Report;

/// Measures group-service against baselines, and prints the table of docs/performance.md
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct Options {
    /// The lines to run; all of them if there are none
    #[arg(value_enum)]
    lines: Vec<Line>,
    /// How many rounds of each line, alternating with those of its baseline
    #[arg(long, default_value_t = 7, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long a round is, in seconds
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Where the large directory is kept, to be used again; without it, it is made anew and removed at the end
    #[arg(long, value_name = "DIR")]
    large_dir: Option<PathBuf>,
}

/// One run: what its lines need, and what they have found.
#[derive(Debug)]
struct Run {
    rounds: usize,
    time: Duration,
    /// Gone at the end, with all that is in it.
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
    if arguments.next().as_deref() == Some(child::MARK) {
        return child::main(arguments.collect());
    }
    let options = Options::parse();
    build();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).expect("signals");
        // Whoever stops it finds nothing left behind either.
        tokio::select! {
            () = run(options) => {}
            _ = tokio::signal::ctrl_c() => eprintln!("stopped"),
            _ = terminate.recv() => eprintln!("stopped"),
        }
    });
}

/// What is measured is the server as it is now, built as its users build it.
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
    let mut lines = options.lines;
    if lines.is_empty() {
        lines = Line::all();
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
    for line in lines {
        line.measure(&mut run).await;
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
