//! Questions of access: of many users, and many in one call.

use group_service::pb;

use super::{CALLERS, HOT, channels, rates, small, speed, within};
use crate::{
    Run, bare,
    calls::{batch_check_access, check_access, check_access_by_rank, question},
    directory::Directory,
    load::closed,
    report::Wanted,
    rounds::alternate,
    server::{self, Server},
};

/// How many questions a call asks.
const BATCH: u64 = 100;
/// A tenth of what the users, groups and roles of the small directory take in the cache.
const TENTH: &str = "256KiB";

/// Ten thousand users, of whom the second asks half as often as the first, and so on, and a cache that holds a
/// tenth of them.
pub(super) async fn zipf(run: &mut Run) {
    let directory = small(run, "zipf");
    let little: &[&str] = if server::knows("--cache-memory") {
        &["--cache-memory", TENTH]
    } else {
        &[]
    };
    let server = Server::on_file(&directory.path, little);
    let (_bare, address) = bare::start(&super::reads::answers(&server, &directory).await);
    let (ours, theirs) = (channels(server.address()).await, channels(&address).await);
    let users = directory.size.users;
    let questions = (0..users)
        .map(|user| question(&directory, user, user))
        .collect();
    let call = check_access_by_rank(questions);
    let (here, there) = alternate(
        run.rounds,
        async || closed(&ours, CALLERS, run.time, &call).await,
        async || closed(&theirs, CALLERS, run.time, &call).await,
    )
    .await;
    let what = format!("CheckAccess, {users} users × Zipf, cache of a tenth ({TENTH})");
    let pair = (&*rates(&here), &*rates(&there));
    run.report.add(speed(
        "zipf",
        &what,
        "bare tonic",
        Wanted::AtLeast(0.5),
        pair,
    ));
    let pair = (&*within(&here, 0.99), &*within(&there, 0.99));
    let what = format!("{what}: p99");
    run.report.add(super::latency(
        "zipf",
        &what,
        "bare tonic",
        Wanted::Nothing,
        pair,
    ));
}

/// A hundred questions in a call against one.
pub(super) async fn batch(run: &mut Run) {
    let directory = small(run, "batch");
    let server = Server::on_file(&directory.path, &[]);
    let channels = channels(server.address()).await;
    let one = check_access(questions(&directory));
    let many = batch_check_access(batches(&directory));
    let (many, one) = alternate(
        run.rounds,
        async || closed(&channels, CALLERS, run.time, &many).await,
        async || closed(&channels, CALLERS, run.time, &one).await,
    )
    .await;
    let many: Vec<_> = rates(&many)
        .iter()
        .map(|rate| rate * BATCH as f64)
        .collect();
    let what = format!("BatchCheckAccess of {BATCH}, questions, {CALLERS} callers");
    let pair = (&*many, &*rates(&one));
    run.report.add(speed(
        "batch",
        &what,
        "CheckAccess",
        Wanted::AtLeast(20.0),
        pair,
    ));
}

fn questions(directory: &Directory) -> Vec<pb::CheckAccessRequest> {
    Directory::spread(directory.size.users, HOT)
        .map(|user| question(directory, user, user))
        .collect()
}

/// Calls of a hundred questions, each about another user.
pub(super) fn batches(directory: &Directory) -> Vec<pb::BatchCheckAccessRequest> {
    let questions: Vec<_> = questions(directory)
        .into_iter()
        .map(|question| {
            let pb::CheckAccessRequest {
                user_id,
                bundle,
                controller,
                action,
                ..
            } = question;
            pb::Question {
                user_id,
                bundle,
                controller,
                action,
            }
        })
        .collect();
    let batch = |first: u64| {
        let asked = questions
            .iter()
            .cycle()
            .skip(first as usize)
            .take(BATCH as usize);
        pb::BatchCheckAccessRequest {
            questions: asked.cloned().collect(),
            min_revision: 0,
        }
    };
    (0..16).map(|number| batch(number * 16)).collect()
}
