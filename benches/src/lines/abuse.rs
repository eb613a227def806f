//! A good caller while others mean harm, against the same caller alone.

#[path = "../../../tests/it/abuse/attacks.rs"]
mod attacks;

use std::time::Duration;

use super::{channels, rates, reads, small, within};
use crate::{
    Run,
    load::open,
    report::{Row, Wanted},
    rounds::{Spread, median},
    server::Server,
};

/// What the good caller asks for in a second.
const RATE: f64 = 200.0;

pub(super) async fn abuse(run: &mut Run) {
    let directory = small(run, "abuse");
    let server = Server::on_file(&directory.path, &["--log", "warn", "--compression", "gzip"]);
    let target = server.address().trim_start_matches("http://");
    let target = target.parse().expect("an address");
    let channels = channels(server.address()).await;
    let [_, (_, check), _] = reads::calls(&directory);
    for attack in attacks::ALL {
        let (mut attacked, mut quiet) = (Vec::new(), Vec::new());
        for _ in 0..run.rounds.min(3) {
            quiet.push(open(&channels, RATE, run.time, &check).await);
            let time = run.time + Duration::from_secs(1);
            let attackers = tokio::spawn(attack.go_on(target, time, Duration::ZERO));
            attacked.push(open(&channels, RATE, run.time, &check).await);
            attackers.await.expect("it ends");
        }
        let (p99, alone) = (within(&attacked, 0.99), within(&quiet, 0.99));
        run.report.add(Row {
            line: "abuse",
            what: format!("CheckAccess, {RATE}/s arriving, during {attack:?}: p99"),
            against: "quiet".to_owned(),
            wanted: Wanted::AtMost(10.0),
            unit: "",
            seen: Spread::ratio(&p99, &alone),
            note: format!(
                "{:.2} ms to {:.2} ms, {:.0}/s answered",
                median(&p99),
                median(&alone),
                median(&rates(&attacked)),
            ),
        });
    }
    run.report.add(Row {
        line: "abuse",
        what: "memory, at most, of all that".to_owned(),
        against: String::new(),
        wanted: Wanted::AtMost(512.0),
        unit: "MiB",
        seen: Spread::of(&[server.memory(true)]),
        note: format!("{:.0} MiB at the end", server.memory(false)),
    });
}
