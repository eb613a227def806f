//! Reads while others write.

use super::{CALLERS, channels, reads, small, speed};
use crate::{
    Run,
    calls::{assign_user, in_turn},
    load::{WARM_UP, closed},
    report::{Row, Wanted},
    rounds::Spread,
    server::{Server, processor_time},
};

const WRITERS: usize = 16;

/// Reads beside writers against reads alone, less the share of the cores that the writers take: what a write
/// takes of them, in this process and in the server, is measured while nobody reads.
pub(super) async fn mixed(run: &mut Run) {
    let directory = small(run, "mixed");
    let server = Server::on_file(&directory.path, &[]);
    let readers = channels(server.address()).await;
    let writers = channels(server.address()).await;
    let read = in_turn(reads::calls(&directory).map(|(_, call)| call));
    let write = assign_user(&directory);
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let (mut beside, mut left, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    let (mut with_readers, mut without) = (Vec::new(), Vec::new());
    let taken = || server.processor_time() + processor_time(std::process::id());
    for _ in 0..run.rounds {
        let alone = closed(&readers, CALLERS, run.time, &read).await.rate();
        let before = taken();
        let writing = closed(&writers, WRITERS, run.time, &write).await.rate();
        let time = (run.time + WARM_UP).as_secs_f64();
        let write_takes = (taken() - before).as_secs_f64() / (writing * time);
        let (reading, written) = tokio::join!(
            closed(&readers, CALLERS, run.time, &read),
            closed(&writers, WRITERS, run.time, &write),
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
        Wanted::AtLeast(0.7),
        (&*beside, &*left),
    );
    let share = Spread::of(&shares).median * 100.0;
    let note = format!("{}; the share is {share:.0} %", row.note);
    run.report.add(Row { note, ..row });
    let what = format!("writes, {WRITERS} callers, beside them");
    let pair = (&*with_readers, &*without);
    run.report
        .add(speed("mixed", &what, "writes alone", Wanted::Nothing, pair));
}
