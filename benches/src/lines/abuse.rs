//! A good caller while others mean harm, against the same caller alone.

#[path = "../../../tests/it/abuse/attacks.rs"]
mod attacks;

use std::time::Duration;

use super::{CHANNELS, channels, rates, reads, small, within};
use crate::{
    Run,
    channel::Channel,
    directory::{Directory, add_users},
    load::open,
    report::{Row, Wanted},
    rounds::{Spread, median},
    server::{Server, token},
};

/// What the good caller asks for in a second.
const RATE: f64 = 200.0;

pub(super) async fn abuse(run: &mut Run) {
    let directory = small(run, "abuse");
    add_users(&directory.path, (0..30_000).map(attacks::run));
    let server = Server::on_file(&directory.path, &["--log", "warn", "--compression", "gzip"]);
    let channels = channels(server.address()).await;
    for attack in attacks::ALL {
        endure(run, attack, &directory, &server, &channels, "").await;
    }
    memory(run, &server, "");

    // Callers have tokens, and those who mean harm have none.
    let directory = small(run, "abuse-known");
    let further = ["--log", "warn", "--authentication", "required"];
    let server = Server::on_file(&directory.path, &further);
    let token = token(&directory.path);
    let mut channels = Vec::with_capacity(CHANNELS);
    for _ in 0..CHANNELS {
        channels.push(Channel::known(server.address(), &token).await);
    }
    for attack in attacks::UNAUTHENTICATED {
        endure(
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

async fn endure(
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
        quiet.push(open(channels, RATE, run.time, &check).await);
        let time = run.time + Duration::from_secs(1);
        let attackers = tokio::spawn(attack.go_on(target, time, Duration::ZERO, None));
        attacked.push(open(channels, RATE, run.time, &check).await);
        attackers.await.expect("it ends");
    }
    let (p99, alone) = (within(&attacked, 0.99), within(&quiet, 0.99));
    run.report.add(Row {
        line: "abuse",
        what: format!("CheckAccess{how}, {RATE}/s arriving, during {attack:?}: p99"),
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

fn memory(run: &mut Run, server: &Server, how: &str) {
    run.report.add(Row {
        line: "abuse",
        what: format!("memory, at most, of all that{how}"),
        against: String::new(),
        wanted: Wanted::AtMost(512.0),
        unit: "MiB",
        seen: Spread::of(&[server.memory(true)]),
        note: format!("{:.0} MiB at the end", server.memory(false)),
    });
}
