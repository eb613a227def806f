//! Callers in a separate process, so that they can be pinned to the same core as their server.

use std::{io::BufRead, time::Duration};

use group_service::pb;

use crate::{
    calls::{check_access, get_group, in_turn, list_roles_in_group},
    child::ChildProcess,
    load::closed_loop,
    server::channels,
    stage::Fixture,
};

const CALLERS: usize = 16;
const CHANNELS: usize = 2;

/// A process of callers, which reads on command.
#[derive(Debug)]
pub(crate) struct PinnedClients(ChildProcess);

impl PinnedClients {
    /// Starts callers of a server on these cores.
    pub(crate) fn start(address: &str, fixture: &Fixture, cores: &str) -> Self {
        let mut helper = ChildProcess::start("caller", &[address], Some(cores));
        let groups = fixture.groups.iter().cycle();
        for (question, group) in fixture.questions.iter().zip(groups) {
            let pb::CheckAccessRequest {
                user_id,
                bundle,
                controller,
                action,
                ..
            } = question;
            helper.send(format!("{group} {user_id} {bundle} {controller} {action}\n").as_bytes());
        }
        helper.send(b"\n");
        Self(helper)
    }

    /// Starts reading for this duration.
    pub(crate) fn begin(&mut self, time: Duration) {
        self.0.send(format!("{}\n", time.as_millis()).as_bytes());
    }

    /// Waits for the end; returns reads per second.
    pub(crate) fn end(&mut self) -> f64 {
        self.0.line().parse().expect("a number")
    }
}

/// Main function of the callers' process.
pub(crate) fn main(arguments: &[String]) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(serve(&arguments[0]));
}

async fn serve(address: &str) {
    let channels = channels(address, CHANNELS).await;
    let mut lines = std::io::stdin()
        .lock()
        .lines()
        .map(|line| line.expect("text"));
    let (mut groups, mut questions) = (Vec::new(), Vec::new());
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        let [group, user_id, bundle, controller, action] = words.try_into().expect("five words");
        groups.push(group);
        questions.push(pb::CheckAccessRequest {
            user_id,
            bundle,
            controller,
            action,
            min_revision: 0,
        });
    }
    let read = in_turn([
        list_roles_in_group(groups.clone()),
        check_access(questions),
        get_group(groups),
    ]);
    for line in lines {
        let time = Duration::from_millis(line.parse().expect("a number"));
        println!(
            "{}",
            closed_loop(&channels, CALLERS, time, &read).await.rate()
        );
    }
}
