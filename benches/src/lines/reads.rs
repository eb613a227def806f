//! Reads against bare tonic: from memory, and without a cache.

use group_service::pb::{
    self, access_service_client::AccessServiceClient, group_service_client::GroupServiceClient,
};

use super::{CALLERS, HOT, channels, latency, rates, small, speed, within};
use crate::{
    Run,
    bare::{self, Answers},
    calls::{Call, check_access, get_group, list_roles_in_group, question},
    directory::Directory,
    load::{closed, open},
    report::{Wanted, thousands},
    rounds::{alternate, median},
    server::{self, Server},
};

/// Of what bare tonic takes, closed loop, so much arrives in the open one.
const ARRIVALS: f64 = 0.5;
/// But not more than this much of what the server itself takes.
const ROOM: f64 = 0.7;

/// From memory: the hot part of a small directory.
pub(super) async fn warm(run: &mut Run) {
    let directory = small(run, "reads");
    let server = Server::on_file(&directory.path, &[]);
    against_bare(run, "reads", "", &server, &directory, 0.85).await;
}

/// Without a cache, each read is one of the database.
pub(super) async fn uncached(run: &mut Run) {
    let directory = small(run, "uncached");
    let off: &[&str] = if server::knows("--cache-memory") {
        &["--cache-memory", "0"]
    } else {
        &[]
    };
    let server = Server::on_file(&directory.path, off);
    against_bare(run, "uncached", ", cache off", &server, &directory, 0.30).await;
}

async fn against_bare(
    run: &mut Run,
    line: &'static str,
    how: &str,
    server: &Server,
    directory: &Directory,
    least: f64,
) {
    let (_bare, address) = bare::start(&answers(server, directory).await, None);
    let ours = channels(server.address()).await;
    let theirs = channels(&address).await;
    for (rpc, call) in calls(directory) {
        let (here, there) = alternate(
            run.rounds,
            async || closed(&ours, CALLERS, run.time, &call).await,
            async || closed(&theirs, CALLERS, run.time, &call).await,
        )
        .await;
        let bare_rate = median(&rates(&there));
        let what = format!("{rpc}, {CALLERS} callers{how}");
        let pair = (&*rates(&here), &*rates(&there));
        let wanted = Wanted::AtLeast(least);
        run.report
            .add(speed(line, &what, "bare tonic", wanted, pair));
        // What a cache is for; without one a ratio of speeds is all that is asked for.
        let most = if how.is_empty() {
            Wanted::AtMost(1.3)
        } else {
            Wanted::Nothing
        };
        let pair = (&*within(&here, 0.99), &*within(&there, 0.99));
        run.report.add(latency(
            line,
            &format!("{what}: p99"),
            "bare tonic",
            most,
            pair,
        ));
        if how.is_empty() {
            // No more than the server takes: else it would be the queue that is measured.
            let rate = f64::min(bare_rate * ARRIVALS, median(&rates(&here)) * ROOM);
            let (here, there) = alternate(
                run.rounds,
                async || open(&ours, rate, run.time, &call).await,
                async || open(&theirs, rate, run.time, &call).await,
            )
            .await;
            let what = format!("{rpc}, {}/s arriving: p99", thousands(rate));
            let pair = (&*within(&here, 0.99), &*within(&there, 0.99));
            run.report
                .add(latency(line, &what, "bare tonic", Wanted::Nothing, pair));
        }
    }
}

/// The three reads that services ask for on every request of their own.
pub(super) fn calls(directory: &Directory) -> [(&'static str, Call); 3] {
    let hot = |of: u64| Directory::spread(of, HOT);
    let groups = || {
        hot(directory.size.groups)
            .map(|group| directory.group(group))
            .collect()
    };
    let questions = hot(directory.size.users)
        .map(|user| question(directory, user, user))
        .collect();
    [
        ("ListRolesInGroup", list_roles_in_group(groups())),
        ("CheckAccess", check_access(questions)),
        ("GetGroup", get_group(groups())),
    ]
}

/// What the server answers to the first of the calls: the others' answers are as long.
pub(super) async fn answers(server: &Server, directory: &Directory) -> Answers {
    let channel = server.connect().await;
    let group = Directory::spread(directory.size.groups, HOT)
        .next()
        .expect("one");
    let user = Directory::spread(directory.size.users, HOT)
        .next()
        .expect("one");
    let group_id = directory.group(group);
    let mut groups = GroupServiceClient::new(channel.clone());
    let request = pb::ListRolesInGroupRequest {
        group_id: group_id.clone(),
        ..Default::default()
    };
    let roles = groups.list_roles_in_group(request).await;
    let request = pb::GetGroupRequest {
        group_id,
        ..Default::default()
    };
    let group = groups.get_group(request).await;
    let question = question(directory, user, user);
    let access = AccessServiceClient::new(channel)
        .check_access(question)
        .await;
    let answers = Answers {
        roles: roles.expect("answered").into_inner(),
        access: access.expect("answered").into_inner(),
        group: group.expect("answered").into_inner(),
    };
    assert_eq!(answers.roles.roles.len(), 3, "{answers:?}");
    assert_eq!(
        answers.access.decision,
        i32::from(pb::Decision::Allowed),
        "{answers:?}"
    );
    answers
}
