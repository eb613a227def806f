//! Reads with concurrent writes.

use super::{CALLERS, channels, reads, small, speed};
use crate::{
    Run,
    calls::{assign_user, in_turn},
    load::{WARM_UP, closed_loop},
    report::{Row, Target},
    rounds::MedianRange,
    server::{Server, processor_time},
};

const WRITERS: usize = 16;

/// Reads with concurrent writers against reads alone, less the share of the cores that the writers use. The
/// processor time of a write, in this process and in the server, is measured without readers.
pub(super) async fn mixed(run: &mut Run) {
    let directory = small(run, "mixed");
    let server = Server::start_sqlite(&directory.path, &[]);
    let readers = channels(server.address()).await;
    let writers = channels(server.address()).await;
    let read = in_turn(reads::calls(&directory).map(|(_, call)| call));
    let write = assign_user(&directory);
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let (mut beside, mut left, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    let (mut with_readers, mut without) = (Vec::new(), Vec::new());
    let taken = || server.processor_time() + processor_time(std::process::id());
    for _ in 0..run.rounds {
        let alone = closed_loop(&readers, CALLERS, run.time, &read).await.rate();
        let before = taken();
        let writing = closed_loop(&writers, WRITERS, run.time, &write)
            .await
            .rate();
        let time = (run.time + WARM_UP).as_secs_f64();
        let write_takes = (taken() - before).as_secs_f64() / (writing * time);
        let (reading, written) = tokio::join!(
            closed_loop(&readers, CALLERS, run.time, &read),
            closed_loop(&writers, WRITERS, run.time, &write),
        );
        let share = written.rate() * write_takes / cores;
        beside.push(reading.rate());
        left.push(alone * (1.0 - share));
        shares.push(share);
        with_readers.push(written.rate());
        without.push(writing);
    }
    let what = format!("reads, {CALLERS} callers, while {WRITERS} writers write");
    let against = "reads alone, less the writers' share of the cores";
    let row = speed(
        "mixed",
        &what,
        against,
        Target::AtLeast(0.7),
        (&*beside, &*left),
    );
    let share = MedianRange::of(&shares).median * 100.0;
    let note = format!("{}; the share is {share:.0} %", row.note);
    run.report.add(Row { note, ..row });
    let what = format!("writes, {WRITERS} callers, beside them");
    let pair = (&*with_readers, &*without);
    run.report.add(speed(
        "mixed",
        &what,
        "writes alone",
        Target::Informational,
        pair,
    ));
}
