//! Questions of access: of many users, and many in one call.

use group_service::pb;

use super::{CALLERS, HOT, channels, rates, small, speed, within};
use crate::{
    Run, bare,
    calls::{batch_check_access, check_access, check_access_by_rank, question},
    directory::Directory,
    load::closed,
    report::{Wanted, thousands},
    rounds::alternate,
    server::{self, Server},
};

/// How many questions a call asks.
const BATCH: u64 = 100;
/// What the small directory takes in the cache: 144 bytes a user, 300 a group, 1,800 a role. A tenth of all of that,
/// then a tenth of the users with every group and role, which is what these users need.
const TENTHS: [(&str, &str); 2] = [
    ("192KiB", "a tenth of everything"),
    ("640KiB", "a tenth of the users, their groups and roles"),
];

/// Ten thousand users, of whom the second asks half as often as the first, and so on, and a cache that holds a
/// tenth.
pub(super) async fn zipf(run: &mut Run) {
    let directory = small(run, "zipf");
    let users = directory.size.users;
    let questions = (0..users).map(|user| question(&directory, user, user));
    let call = check_access_by_rank(questions.collect());
    for (size, tenth) in TENTHS {
        let little: &[&str] = if server::knows("--cache-memory") {
            &["--cache-memory", size]
        } else {
            &[]
        };
        let server = Server::on_file(&directory.path, little);
        let (_bare, address) = bare::start(&super::reads::answers(&server, &directory).await, None);
        let (ours, theirs) = (channels(server.address()).await, channels(&address).await);
        let (here, there) = alternate(
            run.rounds,
            async || closed(&ours, CALLERS, run.time, &call).await,
            async || closed(&theirs, CALLERS, run.time, &call).await,
        )
        .await;
        let what = format!(
            "CheckAccess, {} users × Zipf, cache of {size}: {tenth}",
            thousands(users as f64)
        );
        let pair = (&*rates(&here), &*rates(&there));
        let wanted = Wanted::AtLeast(0.5);
        run.report
            .add(speed("zipf", &what, "bare tonic", wanted, pair));
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
