//! TLS and tokens against a server without them, and against bare tonic with TLS.

use super::{CALLERS, CHANNELS, channels, latency, rates, reads, small, speed, within};
use crate::{
    Run, bare,
    calls::{Call, assign_user, create_group},
    channel::{Channel, TestCertificate},
    load::closed_loop,
    report::Target,
    rounds::alternate,
    server::{Server, token},
};

/// Number of concurrent writers.
const WRITERS: usize = 64;

/// Compares the same server with and without TLS and tokens, on connections that stay open.
pub(super) async fn tls_tokens(run: &mut Run) {
    let (closed_up, open) = (small(run, "secure"), small(run, "plain"));
    let signed = TestCertificate::make(run.dir.path());
    let token = token(&closed_up.path);
    let file = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    let (certificate, key) = (file(&signed.certificate), file(&signed.key));
    let further = [
        "--authentication",
        "required",
        "--tls-certificate",
        &certificate,
        "--tls-key",
        &key,
    ];
    let ours = Server::start_sqlite(&closed_up.path, &further);
    let theirs = Server::start_sqlite(&open.path, &[]);
    let answers = reads::answers(&theirs, &open).await;
    let (_bare, bare) = bare::start(&answers, Some(&signed));
    let secured = secured(ours.address(), &signed, &token).await;
    let plain = channels(theirs.address()).await;
    let bare = self::secured(&bare, &signed, &token).await;

    // Before the writes, which add users to more groups and thereby change the checks.
    for (rpc, call) in reads::calls(&open) {
        let (here, there) = alternate(
            run.rounds,
            async || closed_loop(&secured, CALLERS, run.time, &call).await,
            async || closed_loop(&bare, CALLERS, run.time, &call).await,
        )
        .await;
        let what = format!("{rpc}, {CALLERS} callers, TLS and tokens");
        let target = if rpc == "CheckAccess" {
            Target::AtLeast(0.85)
        } else {
            Target::Informational
        };
        let pair = (&*rates(&here), &*rates(&there));
        let against = "bare tonic with TLS";
        run.report
            .add(speed("secure", &what, against, target, pair));
    }

    let roles: Vec<_> = (0..3).map(|role| open.role(role)).collect();
    let writes: [(&str, Call, Call); 2] = [
        (
            "CreateGroup with 3 roles",
            create_group(roles.clone()),
            create_group(roles),
        ),
        ("AssignUser", assign_user(&closed_up), assign_user(&open)),
    ];
    let reads = reads::calls(&open).map(|(rpc, call)| (rpc, call.clone(), call));
    let reads = reads.into_iter().map(|line| (CALLERS, line));
    let writes = writes.into_iter().map(|line| (WRITERS, line));
    for (callers, (rpc, with, without)) in reads.chain(writes) {
        let (here, there) = alternate(
            run.rounds,
            async || closed_loop(&secured, callers, run.time, &with).await,
            async || closed_loop(&plain, callers, run.time, &without).await,
        )
        .await;
        let what = format!("{rpc}, {callers} callers, TLS and tokens");
        let pair = (&*rates(&here), &*rates(&there));
        let target = Target::AtLeast(0.8);
        run.report
            .add(speed("secure", &what, "without", target, pair));
        let pair = (&*within(&here, 0.99), &*within(&there, 0.99));
        let what = format!("{what}: p99");
        run.report.add(latency(
            "secure",
            &what,
            "without",
            Target::Informational,
            pair,
        ));
    }
}

/// Opens as many connections as without TLS.
async fn secured(address: &str, signed: &TestCertificate, token: &str) -> Vec<Channel> {
    let mut channels = Vec::with_capacity(CHANNELS);
    for _ in 0..CHANNELS {
        channels.push(Channel::connect_tls(address, signed, token).await);
    }
    channels
}
