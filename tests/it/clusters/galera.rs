//! A Galera cluster of three nodes, with an instance for each.

use std::time::Instant;

use tonic::Code;

use super::{
    instance,
    load::{Load, seconds},
};
use crate::harness::{TestServer, print_uncaptured, servers::Galera, skip_test};

/// Starts three instances. Instance `i` writes to node `first(i)`, and reads from node `i`.
async fn instances(
    galera: &Galera,
    database: &str,
    first: impl Fn(usize) -> usize,
) -> Vec<TestServer> {
    let mut instances = Vec::new();
    for node in 0..3 {
        let own = galera.url(node, database);
        let url = galera.urls(first(node), database);
        instances.push(instance(&url, Some(&own)).await);
    }
    instances
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn galera_nodes_share_one_history_across_node_failures() {
    let mut galera = match Galera::start(3).await {
        Ok(galera) => galera,
        Err(why) => return skip_test("a Galera cluster", &why),
    };
    // All instances write to one node, as documented; then each to its own node, which must be correct, too.
    for (name, database, spread) in [("one node", "one", false), ("all nodes", "every", true)] {
        galera
            .query(0, &format!("CREATE DATABASE {database}"))
            .await;
        let worlds = instances(&galera, database, |node| if spread { node } else { 0 }).await;
        let channels: Vec<_> = worlds
            .iter()
            .map(|test_server| test_server.channel.clone())
            .collect();
        let begun = Instant::now();
        // With several writing nodes, conflicting writes may be rejected; callers retry them.
        let refusals: &[Code] = if spread { &[Code::Aborted] } else { &[] };
        let load = Load::begin(channels, 32, 32, refusals).await;
        tokio::time::sleep(seconds()).await;
        let done = load.verify().await;
        let retries: u64 = worlds
            .iter()
            .map(|test_server| test_server.db.retries())
            .sum();
        let took = begun.elapsed().as_secs_f64();
        print_uncaptured(&format!(
            "Galera, writes on {name}: {done}, {retries} retries, {took:.1} s"
        ));
        assert!(done.acknowledged > 0);
    }

    // The written node is killed: callers of the other two instances continue.
    galera.query(0, "CREATE DATABASE failover").await;
    let worlds = instances(&galera, "failover", |_| 0).await;
    let channels = worlds[1..]
        .iter()
        .map(|test_server| test_server.channel.clone());
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
    print_uncaptured(&format!(
        "Galera, a node killed twice: {}",
        load.verify().await
    ));
}
