//! Access checks: for many users, and in batches.

use group_service::pb;

use super::{CALLERS, HOT, channels, rates, small, speed, within};
use crate::{
    Run, bare,
    calls::{batch_check_access, check_access, check_access_by_rank, question},
    directory::Directory,
    load::closed_loop,
    report::{Target, thousands},
    rounds::alternate,
    server::{self, Server},
};

/// Number of questions in a batch.
const BATCH: u64 = 100;
/// Cache sizes. In the cache, a user of the small directory takes 144 bytes, a group 300 and a role 1,800. The
/// first size is for a tenth of everything; the second for a tenth of the users with all groups and roles, which
/// these users need.
const SKEWS: [(&str, &str); 2] = [
    ("192KiB", "a tenth of everything"),
    ("640KiB", "a tenth of the users, their groups and roles"),
];

/// Checks for ten thousand users with a Zipf distribution, and a cache that holds a tenth of them.
pub(super) async fn zipf(run: &mut Run) {
    let directory = small(run, "zipf");
    let users = directory.size.users;
    let questions = (0..users).map(|user| question(&directory, user, user));
    let call = check_access_by_rank(questions.collect());
    for (size, tenth) in SKEWS {
        let little: &[&str] = if server::supports_setting("--cache-memory") {
            &["--cache-memory", size]
        } else {
            &[]
        };
        let server = Server::start_sqlite(&directory.path, little);
        let (_bare, address) = bare::start(&super::reads::answers(&server, &directory).await, None);
        let (ours, theirs) = (channels(server.address()).await, channels(&address).await);
        let (here, there) = alternate(
            run.rounds,
            async || closed_loop(&ours, CALLERS, run.time, &call).await,
            async || closed_loop(&theirs, CALLERS, run.time, &call).await,
        )
        .await;
        let what = format!(
            "CheckAccess, {} users × Zipf, cache of {size}: {tenth}",
            thousands(users as f64)
        );
        let pair = (&*rates(&here), &*rates(&there));
        let target = Target::AtLeast(0.5);
        run.report
            .add(speed("zipf", &what, "bare tonic", target, pair));
        let pair = (&*within(&here, 0.99), &*within(&there, 0.99));
        let what = format!("{what}: p99");
        run.report.add(super::latency(
            "zipf",
            &what,
            "bare tonic",
            Target::Informational,
            pair,
        ));
    }
}

/// A hundred questions per call against one.
pub(super) async fn batch(run: &mut Run) {
    let directory = small(run, "batch");
    let server = Server::start_sqlite(&directory.path, &[]);
    let channels = channels(server.address()).await;
    let one = check_access(questions(&directory));
    let many = batch_check_access(batches(&directory));
    let (many, one) = alternate(
        run.rounds,
        async || closed_loop(&channels, CALLERS, run.time, &many).await,
        async || closed_loop(&channels, CALLERS, run.time, &one).await,
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
        Target::AtLeast(20.0),
        pair,
    ));
}

fn questions(directory: &Directory) -> Vec<pb::CheckAccessRequest> {
    Directory::spread_indices(directory.size.users, HOT)
        .map(|user| question(directory, user, user))
        .collect()
}

/// Calls with a hundred questions, each about a different user.
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
