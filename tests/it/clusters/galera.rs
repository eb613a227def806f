//! A Galera cluster of three nodes, with an instance for each.

use std::time::Instant;

use tonic::Code;

use super::{
    instance,
    load::{Load, seconds},
};
use crate::harness::{World, not_run, say, servers::Galera};

/// Three instances, which write on the nodes that `first` names, and read from their own.
async fn instances(galera: &Galera, database: &str, first: impl Fn(usize) -> usize) -> Vec<World> {
    let mut instances = Vec::new();
    for node in 0..3 {
        let own = galera.url(node, database);
        let url = galera.urls(first(node), database);
        instances.push(instance(&url, Some(&own)).await);
    }
    instances
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_have_one_history_whoever_writes_and_whoever_dies() {
    let mut galera = match Galera::start(3).await {
        Ok(galera) => galera,
        Err(why) => return not_run("a Galera cluster", &why),
    };
    // All write on one node, as the documentation has it; and each on its own, which must be right, too.
    for (name, database, spread) in [("one node", "one", false), ("all nodes", "every", true)] {
        galera
            .query(0, &format!("CREATE DATABASE {database}"))
            .await;
        let worlds = instances(&galera, database, |node| if spread { node } else { 0 }).await;
        let channels: Vec<_> = worlds.iter().map(|world| world.channel.clone()).collect();
        let begun = Instant::now();
        // Where all write on all, some may give up: they are told to try again.
        let refusals: &[Code] = if spread { &[Code::Aborted] } else { &[] };
        let load = Load::begin(channels, 32, 32, refusals).await;
        tokio::time::sleep(seconds()).await;
        let done = load.prove().await;
        let retries: u64 = worlds.iter().map(|world| world.db.retries()).sum();
        let took = begun.elapsed().as_secs_f64();
        say(&format!(
            "Galera, writes on {name}: {done}, {retries} retries, {took:.1} s"
        ));
        assert!(done.acknowledged > 0);
    }

    // The node that is written on dies: the callers of the other two go on.
    galera.query(0, "CREATE DATABASE failover").await;
    let worlds = instances(&galera, "failover", |_| 0).await;
    let channels = worlds[1..].iter().map(|world| world.channel.clone());
    let load = Load::begin(
        channels.collect(),
        16,
        16,
        &[Code::Unavailable, Code::Aborted],
    )
    .await;
    for _ in 0..2 {
        load.go_on(100).await;
        galera.kill(0).await;
        load.go_on(100).await;
        galera.rejoin(0).await;
        load.go_on(100).await;
    }
    say(&format!(
        "Galera, a node killed twice: {}",
        load.prove().await
    ));
}
