//! The process: memory, and start-up time.

use std::time::{Duration, Instant};

use super::{CALLERS, channels, large, reads};
use crate::{
    Run,
    calls::{assign_user, get_group, in_turn},
    directory::Directory,
    load::closed_loop,
    report::{Row, Target},
    rounds::MedianRange,
    server::{Server, migrate},
};

/// Long enough for memory that is only needed at start-up to be released.
const IDLE: Duration = Duration::from_secs(3);

/// Resident memory of an idle server after start-up, and of one under load on the large directory.
pub(super) async fn memory(run: &mut Run) {
    let mut idle = Vec::new();
    for round in 0..run.rounds {
        let server = Server::start_sqlite(&run.path(&format!("idle-{round}.db")), &[]);
        tokio::time::sleep(IDLE).await;
        idle.push(server.memory(false));
    }
    run.report.add(Row {
        scenario: "memory",
        what: "memory, idle, new directory".to_owned(),
        against: String::new(),
        target: Target::AtMost(30.0),
        unit: "MiB",
        measured: MedianRange::of(&idle),
        note: "resident".to_owned(),
    });

    let directory = large(run);
    let server = Server::start_sqlite(&directory.path, &[]);
    let channels = channels(server.address()).await;
    let size = directory.size;
    // All groups and users in turn, in addition to the hot ones, so that the cache fills up.
    let anything = get_group(
        (0..size.groups)
            .map(|group| directory.group(group))
            .collect(),
    );
    let users = Directory::spread_indices(size.users, size.users / 10);
    let users = users.map(|user| crate::calls::question(&directory, user, user));
    let anybody = crate::calls::check_access(users.collect());
    let [(_, a), (_, b), (_, c)] = reads::calls(&directory);
    let read = in_turn([a, b, c, anything, anybody]);
    let write = assign_user(&directory);
    let mut most = Vec::new();
    for _ in 0..run.rounds {
        tokio::join!(
            closed_loop(&channels, CALLERS, run.time, &read),
            closed_loop(&channels, 16, run.time, &write),
        );
        most.push(server.memory(false));
    }
    run.report.add(Row {
        scenario: "memory",
        what: format!("memory, large directory, {CALLERS} callers and 16 writers"),
        against: String::new(),
        target: Target::AtMost(300.0),
        unit: "MiB",
        measured: MedianRange::of(&most),
        note: format!(
            "resident after each round; {:.0} MiB at most",
            server.memory(true)
        ),
    });
}

/// The time from starting the process to the first response.
pub(super) async fn start(run: &mut Run) {
    let mut empty = Vec::new();
    for round in 0..run.rounds {
        let path = run.path(&format!("start-{round}.db"));
        migrate(&path);
        let began = Instant::now();
        let server = Server::start_sqlite(&path, &[]);
        first_answer(&server).await;
        empty.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    run.report
        .add(row("start to first answer, empty directory", 150.0, &empty));
    let mut new = Vec::new();
    for round in 0..run.rounds {
        let began = Instant::now();
        let server = Server::start_sqlite(&run.path(&format!("new-{round}.db")), &[]);
        first_answer(&server).await;
        new.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    run.report
        .add(row("start to first answer, no directory yet", 150.0, &new));
    let directory = large(run);
    let mut full = Vec::new();
    for _ in 0..run.rounds {
        let began = Instant::now();
        let server = Server::start_sqlite(&directory.path, &[]);
        first_answer(&server).await;
        full.push(began.elapsed().as_secs_f64() * 1000.0);
    }
    run.report
        .add(row("start to first answer, large directory", 500.0, &full));
}

fn row(what: &str, most: f64, measured: &[f64]) -> Row {
    Row {
        scenario: "start",
        what: what.to_owned(),
        against: String::new(),
        target: Target::AtMost(most),
        unit: "ms",
        measured: MedianRange::of(measured),
        note: String::new(),
    }
}

/// Requests the first page of a list, which is read from the database.
async fn first_answer(server: &Server) {
    use group_service::pb;
    let mut client = pb::group_service_client::GroupServiceClient::new(server.connect().await);
    let answer = client.list_groups(pb::ListGroupsRequest::default()).await;
    answer.expect("answered");
}
