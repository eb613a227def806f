//! Twice as many calls as the server can handle.

use std::time::Duration;

use super::{latency, speed};
use crate::{
    Run,
    arrivals::{LoadGenerator, Mix, Phase, SIZE, WINDOW},
    directory::Directory,
    load::WARM_UP,
    report::{Row, Target, thousands},
    rounds::{MedianRange, median},
    server::Server,
};

/// Numbers of callers that are tried to find the peak rate.
const CALLERS: [usize; 4] = [8, 32, 128, 512];
/// Duration of the overload, in durations of a round: a minute by default.
const OVERLOAD_ROUNDS: u32 = 30;
/// Maximum number of rounds, because each takes long.
const ROUNDS: usize = 3;
/// Arrival rates before, during and after the overload, as ratios of the peak rate.
const QUIET_LOAD: f64 = 0.2;
const OVERLOAD_LOAD: f64 = 2.0;
const RECOVERY_LOAD: f64 = 0.5;
/// Duration of the recovery phase.
const RECOVERY_TIME: Duration = Duration::from_secs(5);
/// Number of consecutive good windows that count as recovered.
const RECOVERED_WINDOWS: usize = 3;
/// Cores of the server and of the load generator.
const CORES: [&str; 2] = ["0", "1"];

/// An open loop at twice the peak rate, with a mix and with writes only.
pub(super) fn overload(run: &mut Run) {
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        eprintln!("NOT RUN: overload: it takes two cores");
        return;
    }
    let mix = "three pages of 50 to one write";
    for (mix, what) in [(Mix::Mixed, mix), (Mix::Writes, "writes alone")] {
        let path = run.path(&format!("overload-{mix:?}.db"));
        let directory = Directory::make(&path, SIZE);
        let url = crate::server::url(&directory.path);
        let server = Server::start(&url, &[], run.dir.path(), Some(CORES[0]));
        let mut generator = LoadGenerator::start(server.address(), server.process(), mix, CORES[1]);
        let rounds = 0..run.rounds.min(ROUNDS);
        let rounds: Vec<_> = rounds.map(|_| round(run, &mut generator)).collect();
        report(run, what, &rounds);
    }
}

/// Results of a round.
struct Round {
    /// Peak rate of the closed loop, in calls per second.
    peak: f64,
    callers: usize,
    quiet: Phase,
    overload: Phase,
    after: Phase,
}

fn round(run: &Run, generator: &mut LoadGenerator) -> Round {
    let peaks = CALLERS.map(|callers| (generator.closed_loop(callers, run.time), callers));
    let (peak, callers) = peaks
        .into_iter()
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .expect("some");
    let quiet = peak * QUIET_LOAD;
    let [_, quiet] = phases(generator.open_loop(&[(quiet, WARM_UP), (quiet, run.time * 5)]));
    let [overload, after] = phases(generator.open_loop(&[
        (peak * OVERLOAD_LOAD, run.time * OVERLOAD_ROUNDS),
        (peak * RECOVERY_LOAD, RECOVERY_TIME),
    ]));
    eprintln!("overload: peaks {peaks:.0?}; quiet {}", summary(&quiet));
    eprintln!("overload: at twice the peak {}", summary(&overload));
    eprintln!("overload: after it {}", summary(&after));
    Round {
        peak,
        callers,
        quiet,
        overload,
        after,
    }
}

fn phases(phases: Vec<Phase>) -> [Phase; 2] {
    phases.try_into().expect("two")
}

fn summary(phase: &Phase) -> String {
    format!(
        "{}/s arrived, {}/s accepted, {}/s refused, {} dropped; accepted p50 {:.2} ms, p99 {:.2} ms ({:.2} ms from \
         arrival); refused p99 {:.2} ms, longest {:.1} ms; sent late p99 {:.2} ms; of a core the server took {:.2}, \
         the callers {:.2}; health asked {} times, longest {:.1} ms",
        thousands(phase.arrived),
        thousands(phase.accepted),
        thousands(phase.refused),
        phase.dropped,
        phase.p50,
        phase.p99,
        phase.p99_from_arrival,
        phase.refused_p99,
        phase.refused_longest,
        phase.late_p99,
        phase.server,
        phase.generator,
        phase.health,
        phase.health_longest,
    )
}

impl Round {
    /// Time in ms from the end of the overload to the end of the first of [`RECOVERED_WINDOWS`] consecutive good
    /// windows; the whole recovery phase if there are none. A window is good if no call is rejected and its p99 is
    /// at most twice that before the overload.
    fn recovery(&self) -> f64 {
        let mut windows = self.after.windows.windows(RECOVERED_WINDOWS);
        let first = windows.position(|row| row.iter().all(|window| self.is_good(*window)));
        first.map_or(RECOVERY_TIME.as_secs_f64() * 1e3, |window| {
            (WINDOW.as_secs_f64() * 1e3) * (window + 1) as f64
        })
    }

    fn is_good(&self, window: Option<f64>) -> bool {
        window.is_some_and(|p99| p99 <= self.quiet.p99 * 2.0)
    }

    /// The ratio of good windows in the recovery phase.
    fn good(&self) -> f64 {
        let windows = &self.after.windows;
        let good = windows.iter().filter(|window| self.is_good(**window));
        good.count() as f64 / windows.len() as f64
    }
}

fn report(run: &mut Run, mix: &str, rounds: &[Round]) {
    let seconds = (run.time * OVERLOAD_ROUNDS).as_secs();
    let what = |what: &str| format!("{mix}, twice the peak for {seconds} s: {what}");
    let figures = |of: &dyn Fn(&Round) -> f64| -> Vec<f64> { rounds.iter().map(of).collect() };
    let middle = |of: &dyn Fn(&Round) -> f64| median(&figures(of));
    let scenario = "overload";

    let accepted = figures(&|round| round.overload.accepted);
    let peaks = figures(&|round| round.peak);
    let target = Target::AtLeast(0.8);
    let row = speed(
        scenario,
        &what("accepted"),
        "the peak, closed loop",
        target,
        (&accepted, &peaks),
    );
    let note = format!(
        "{}; {}/s arrived, {} dropped; peak with {} callers; of a core the server took {:.2}, the callers {:.2}",
        row.note,
        thousands(middle(&|round| round.overload.arrived)),
        figures(&|round| round.overload.dropped).iter().sum::<f64>(),
        rounds[rounds.len() / 2].callers,
        middle(&|round| round.overload.server),
        middle(&|round| round.overload.generator),
    );
    run.report.add(Row { note, ..row });

    let p99 = figures(&|round| round.overload.p99);
    let quiet = figures(&|round| round.quiet.p99);
    let against = format!(
        "a fifth of the peak: {}/s",
        thousands(median(&peaks) * QUIET_LOAD)
    );
    let row = latency(
        scenario,
        &what("accepted, p99 from sending"),
        &against,
        Target::AtMost(5.0),
        (&p99, &quiet),
    );
    let note = format!(
        "{}; from arrival {:.2} ms to {:.2} ms",
        row.note,
        middle(&|round| round.overload.p99_from_arrival),
        middle(&|round| round.quiet.p99_from_arrival),
    );
    run.report.add(Row { note, ..row });

    let mut single = |name: &str, most: f64, measured: &[f64], note: String| {
        run.report.add(Row {
            scenario,
            what: what(name),
            against: String::new(),
            target: Target::AtMost(most),
            unit: "ms",
            measured: MedianRange::of(measured),
            note,
        });
    };
    let note = format!(
        "{}/s refused, the last after {:.1} ms; sent up to {:.2} ms late (p99)",
        thousands(middle(&|round| round.overload.refused)),
        figures(&|round| round.overload.refused_longest)
            .into_iter()
            .fold(0.0, f64::max),
        middle(&|round| round.overload.late_p99),
    );
    let refused = figures(&|round| round.overload.refused_p99);
    single("refused, p99 from sending", 10.0, &refused, note);
    let note = format!(
        "asked {} times a round",
        thousands(middle(&|round| round.overload.health))
    );
    let health = figures(&|round| round.overload.health_longest);
    single(
        "the longest answer to a health check",
        1000.0,
        &health,
        note,
    );
    let note = format!(
        "half of the peak arriving; of {} windows {:.0} % are within",
        rounds[0].after.windows.len(),
        middle(&Round::good) * 100.0
    );
    let recovery = figures(&Round::recovery);
    single(
        "from its end to three times 100 ms with a p99 within twice a quiet time's, nobody refused",
        2000.0,
        &recovery,
        note,
    );
}
