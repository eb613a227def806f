//! Reads against bare tonic: cache hits, and without a cache.

use group_service::pb::{
    self, access_service_client::AccessServiceClient, group_service_client::GroupServiceClient,
};

use super::{CALLERS, HOT, channels, latency, rates, small, speed, within};
use crate::{
    Run,
    bare::{self, Answers},
    calls::{Call, check_access, get_group, list_roles_in_group, question},
    directory::Directory,
    load::{closed_loop, open_loop},
    report::{Target, thousands},
    rounds::{alternate, median},
    server::{self, Server},
};

/// Arrival rate of the open loop, as a ratio of bare tonic's closed-loop rate.
const ARRIVAL_RATE: f64 = 0.5;
/// Upper bound of the arrival rate, as a ratio of the server's own closed-loop rate.
const HEADROOM: f64 = 0.7;

/// Cache hits: the hot part of a small directory.
pub(super) async fn warm(run: &mut Run) {
    let directory = small(run, "reads");
    let server = Server::start_sqlite(&directory.path, &[]);
    compare_with_tonic(run, "reads", "", &server, &directory, 0.85).await;
}

/// Without a cache, so that each read goes to the database.
pub(super) async fn uncached(run: &mut Run) {
    let directory = small(run, "uncached");
    let off: &[&str] = if server::supports_setting("--cache-memory") {
        &["--cache-memory", "0"]
    } else {
        &[]
    };
    let server = Server::start_sqlite(&directory.path, off);
    compare_with_tonic(run, "uncached", ", cache off", &server, &directory, 0.30).await;
}

async fn compare_with_tonic(
    run: &mut Run,
    scenario: &'static str,
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
            async || closed_loop(&ours, CALLERS, run.time, &call).await,
            async || closed_loop(&theirs, CALLERS, run.time, &call).await,
        )
        .await;
        let bare_rate = median(&rates(&there));
        let what = format!("{rpc}, {CALLERS} callers{how}");
        let pair = (&*rates(&here), &*rates(&there));
        let target = Target::AtLeast(least);
        run.report
            .add(speed(scenario, &what, "bare tonic", target, pair));
        // There is a target for latency with the cache only; without it, just for the rate.
        let most = if how.is_empty() {
            Target::AtMost(1.3)
        } else {
            Target::Informational
        };
        let pair = (&*within(&here, 0.99), &*within(&there, 0.99));
        run.report.add(latency(
            scenario,
            &format!("{what}: p99"),
            "bare tonic",
            most,
            pair,
        ));
        if how.is_empty() {
            // Below what the server can handle: otherwise the queue would be measured.
            let rate = f64::min(bare_rate * ARRIVAL_RATE, median(&rates(&here)) * HEADROOM);
            let (here, there) = alternate(
                run.rounds,
                async || open_loop(&ours, rate, run.time, &call).await,
                async || open_loop(&theirs, rate, run.time, &call).await,
            )
            .await;
            let what = format!("{rpc}, {}/s arriving: p99", thousands(rate));
            let pair = (&*within(&here, 0.99), &*within(&there, 0.99));
            run.report.add(latency(
                scenario,
                &what,
                "bare tonic",
                Target::Informational,
                pair,
            ));
        }
    }
}

/// The three reads that services make for each of their own requests.
pub(super) fn calls(directory: &Directory) -> [(&'static str, Call); 3] {
    let hot = |of: u64| Directory::spread_indices(of, HOT);
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

/// The server's responses to the first of the calls; the responses to the others have the same size.
pub(super) async fn answers(server: &Server, directory: &Directory) -> Answers {
    let channel = server.connect().await;
    let group = Directory::spread_indices(directory.size.groups, HOT)
        .next()
        .expect("one");
    let user = Directory::spread_indices(directory.size.users, HOT)
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
