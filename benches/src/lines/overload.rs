//! Twice as many calls as the server can take.

use std::time::Duration;

use super::{latency, speed};
use crate::{
    Run,
    arrivals::{Arrivals, Mix, Phase, SIZE, WINDOW},
    directory::Directory,
    load::WARM_UP,
    report::{Row, Wanted, thousands},
    rounds::{Spread, median},
    server::Server,
};

/// How many callers the peak is looked for with.
const CALLERS: [usize; 4] = [8, 32, 128, 512];
/// How long the overload is, in rounds' times: a minute by default.
const LENGTH: u32 = 30;
/// How many rounds there are at most: each takes its time.
const ROUNDS: usize = 3;
/// Of the peak, so much arrives in a quiet time, in the overload and after it.
const QUIET: f64 = 0.2;
const OVERLOAD: f64 = 2.0;
const AFTER: f64 = 0.5;
/// How long it is looked whether it recovers.
const RECOVERY: Duration = Duration::from_secs(5);
/// So many good windows in a row are no accident.
const IN_A_ROW: usize = 3;
/// Server, and who calls it: each takes nothing of the other's time.
const CORES: [&str; 2] = ["0", "1"];

/// An open loop at twice the peak, with a mix and with writes alone.
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
        let mut arrivals = Arrivals::start(server.address(), server.process(), mix, CORES[1]);
        let rounds = 0..run.rounds.min(ROUNDS);
        let rounds: Vec<_> = rounds.map(|_| round(run, &mut arrivals)).collect();
        report(run, what, &rounds);
    }
}

/// What a round has seen.
struct Round {
    /// Calls a second, closed loop.
    peak: f64,
    callers: usize,
    quiet: Phase,
    overload: Phase,
    after: Phase,
}

fn round(run: &Run, arrivals: &mut Arrivals) -> Round {
    let peaks = CALLERS.map(|callers| (arrivals.closed(callers, run.time), callers));
    let (peak, callers) = peaks
        .into_iter()
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .expect("some");
    let quiet = peak * QUIET;
    let [_, quiet] = phases(arrivals.open(&[(quiet, WARM_UP), (quiet, run.time * 5)]));
    let [overload, after] = phases(arrivals.open(&[
        (peak * OVERLOAD, run.time * LENGTH),
        (peak * AFTER, RECOVERY),
    ]));
    eprintln!("overload: peaks {peaks:.0?}; quiet {}", told(&quiet));
    eprintln!("overload: at twice the peak {}", told(&overload));
    eprintln!("overload: after it {}", told(&after));
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

fn told(phase: &Phase) -> String {
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
    /// How long it takes, in ms, until windows in a row are as good as twice a quiet time and nobody in them is refused:
    /// to the end of the first. All of the time, if none are.
    fn recovery(&self) -> f64 {
        let mut windows = self.after.windows.windows(IN_A_ROW);
        let first = windows.position(|row| row.iter().all(|window| self.is_good(*window)));
        first.map_or(RECOVERY.as_secs_f64() * 1e3, |window| {
            (WINDOW.as_secs_f64() * 1e3) * (window + 1) as f64
        })
    }

    fn is_good(&self, window: Option<f64>) -> bool {
        window.is_some_and(|p99| p99 <= self.quiet.p99 * 2.0)
    }

    /// The share of the windows after it that are as good.
    fn good(&self) -> f64 {
        let windows = &self.after.windows;
        let good = windows.iter().filter(|window| self.is_good(**window));
        good.count() as f64 / windows.len() as f64
    }
}

fn report(run: &mut Run, mix: &str, rounds: &[Round]) {
    let seconds = (run.time * LENGTH).as_secs();
    let what = |what: &str| format!("{mix}, twice the peak for {seconds} s: {what}");
    let figures = |of: &dyn Fn(&Round) -> f64| -> Vec<f64> { rounds.iter().map(of).collect() };
    let middle = |of: &dyn Fn(&Round) -> f64| median(&figures(of));
    let line = "overload";

    let accepted = figures(&|round| round.overload.accepted);
    let peaks = figures(&|round| round.peak);
    let wanted = Wanted::AtLeast(0.8);
    let row = speed(
        line,
        &what("accepted"),
        "the peak, closed loop",
        wanted,
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
        thousands(median(&peaks) * QUIET)
    );
    let row = latency(
        line,
        &what("accepted, p99 from sending"),
        &against,
        Wanted::AtMost(5.0),
        (&p99, &quiet),
    );
    let note = format!(
        "{}; from arrival {:.2} ms to {:.2} ms",
        row.note,
        middle(&|round| round.overload.p99_from_arrival),
        middle(&|round| round.quiet.p99_from_arrival),
    );
    run.report.add(Row { note, ..row });

    let mut single = |name: &str, most: f64, seen: &[f64], note: String| {
        run.report.add(Row {
            line,
            what: what(name),
            against: String::new(),
            wanted: Wanted::AtMost(most),
            unit: "ms",
            seen: Spread::of(seen),
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
