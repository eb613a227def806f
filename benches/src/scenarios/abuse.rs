//! A well-behaved caller during attacks, against the same caller alone.

#[path = "../../../tests/it/abuse/attacks.rs"]
mod attacks;

use std::time::Duration;

use super::{CHANNELS, channels, rates, reads, small, within};
use crate::{
    Run,
    channel::Channel,
    directory::{Directory, add_users},
    load::open_loop,
    report::{Row, Target},
    rounds::{MedianRange, median},
    server::{Server, token},
};

/// Calls per second of the well-behaved caller.
const RATE: f64 = 200.0;

pub(super) async fn abuse(run: &mut Run) {
    let directory = small(run, "abuse");
    add_users(&directory.path, (0..30_000).map(attacks::expensive_name));
    let server = Server::start_sqlite(&directory.path, &["--log", "warn", "--compression", "gzip"]);
    let channels = channels(server.address()).await;
    for attack in attacks::ALL {
        measure_under_attack(run, attack, &directory, &server, &channels, "").await;
    }
    memory(run, &server, "");

    // The caller has a token; the attackers have none.
    let directory = small(run, "abuse-known");
    let further = ["--log", "warn", "--authentication", "required"];
    let server = Server::start_sqlite(&directory.path, &further);
    let token = token(&directory.path);
    let mut channels = Vec::with_capacity(CHANNELS);
    for _ in 0..CHANNELS {
        channels.push(Channel::connect_with_token(server.address(), &token).await);
    }
    for attack in attacks::UNAUTHENTICATED {
        measure_under_attack(
            run,
            attack,
            &directory,
            &server,
            &channels,
            ", with a token",
        )
        .await;
    }
    memory(run, &server, ", with tokens");
}

async fn measure_under_attack(
    run: &mut Run,
    attack: attacks::Attack,
    directory: &Directory,
    server: &Server,
    channels: &[Channel],
    how: &str,
) {
    let target = server.address().trim_start_matches("http://");
    let target = target.parse().expect("an address");
    let [_, (_, check), _] = reads::calls(directory);
    let (mut attacked, mut quiet) = (Vec::new(), Vec::new());
    for _ in 0..run.rounds.min(3) {
        quiet.push(open_loop(channels, RATE, run.time, &check).await);
        let time = run.time + Duration::from_secs(1);
        let attackers = tokio::spawn(attack.attack_repeatedly(target, time, Duration::ZERO, None));
        attacked.push(open_loop(channels, RATE, run.time, &check).await);
        attackers.await.expect("it ends");
    }
    let (p99, alone) = (within(&attacked, 0.99), within(&quiet, 0.99));
    run.report.add(Row {
        scenario: "abuse",
        what: format!("CheckAccess{how}, {RATE}/s arriving, during {attack:?}: p99"),
        against: "quiet".to_owned(),
        target: Target::AtMost(10.0),
        unit: "",
        measured: MedianRange::ratio(&p99, &alone),
        note: format!(
            "{:.2} ms to {:.2} ms, {:.0}/s answered",
            median(&p99),
            median(&alone),
            median(&rates(&attacked)),
        ),
    });
}

fn memory(run: &mut Run, server: &Server, how: &str) {
    run.report.add(Row {
        scenario: "abuse",
        what: format!("memory, at most, of all that{how}"),
        against: String::new(),
        target: Target::AtMost(512.0),
        unit: "MiB",
        measured: MedianRange::of(&[server.memory(true)]),
        note: format!("{:.0} MiB at the end", server.memory(false)),
    });
}
