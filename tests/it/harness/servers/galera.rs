//! A Galera cluster of MariaDB servers, all of them writable.

use std::{iter, path::PathBuf};

use super::{
    Dir, MariaDb, free_port,
    mariadb::{install, url},
    program, until,
};

/// Short timeouts to detect a node that is down, but long ones to agree on the members: nodes that give up on each
/// other in turn never agree. Small files.
const PROVIDER: &str = "evs.keepalive_period=PT0.1S;evs.inactive_check_period=PT0.1S;\
    evs.suspect_timeout=PT1S;evs.inactive_timeout=PT4S;evs.install_timeout=PT4S;\
    evs.join_retrans_period=PT0.2S;gcache.size=32M";

/// A running cluster, stopped and removed on drop.
#[derive(Debug)]
pub(crate) struct Galera {
    nodes: Vec<MariaDb>,
    up: Vec<bool>,
}

impl Galera {
    /// Starts a cluster. Returns a reason if its programs aren't installed.
    pub(crate) async fn start(nodes: usize) -> Result<Self, String> {
        let provider = provider()?;
        program("rsync", &[])?;
        let (account, first) = install().await?;
        let addresses: Vec<_> = (0..nodes).map(|_| local(free_port())).collect();
        let cluster = addresses.join(",");
        // The other nodes start with a copy of the first one.
        let dirs = iter::once(first).chain((1..nodes).map(|_| Dir::new(account)));
        let mut cluster_of = Self {
            nodes: Vec::new(),
            up: Vec::new(),
        };
        for (dir, address) in dirs.zip(addresses) {
            let receive = local(free_port());
            let transfer = local(free_port());
            let options = vec![
                "--wsrep-on=ON".into(),
                format!("--wsrep-provider={}", provider.display()),
                format!(
                    "--wsrep-provider-options={PROVIDER};gmcast.listen_addr=tcp://{address};ist.recv_addr={receive}"
                ),
                format!("--wsrep-cluster-address=gcomm://{cluster}"),
                format!("--wsrep-node-address={address}"),
                "--wsrep-sst-method=rsync".into(),
                format!("--wsrep-sst-receive-address={transfer}"),
                "--binlog-format=ROW".into(),
                "--innodb-autoinc-lock-mode=2".into(),
                "--innodb-flush-log-at-trx-commit=1".into(),
                "--default-storage-engine=InnoDB".into(),
            ];
            let once = if cluster_of.nodes.is_empty() {
                vec!["--wsrep-new-cluster".into()]
            } else {
                Vec::new()
            };
            let node = MariaDb::serve(account, dir, options, &once).await;
            cluster_of.nodes.push(node);
            cluster_of.up.push(true);
        }
        for node in 0..nodes {
            cluster_of.synced(node).await;
        }
        Ok(cluster_of)
    }

    pub(crate) fn url(&self, node: usize, database: &str) -> String {
        self.nodes[node].url(database)
    }

    /// The URL of all nodes, starting with this one, in ring order.
    pub(crate) fn urls(&self, first: usize, database: &str) -> String {
        let mut addresses: Vec<_> = self.nodes.iter().map(MariaDb::address).collect();
        addresses.rotate_left(first);
        url(&addresses, database)
    }

    /// Kills a node, as a crash would.
    pub(crate) async fn kill(&mut self, node: usize) {
        self.nodes[node].kill().await;
        self.up[node] = false;
    }

    /// Starts a node again after a crash, and waits until it has caught up with another.
    pub(crate) async fn rejoin(&mut self, node: usize) {
        // Nodes that still wait for the killed node take longer to agree on the new one.
        if let Some(other) = self.up.iter().position(|up| *up) {
            self.synced(other).await;
        }
        let recovered = self.nodes[node].recover().await;
        let (_, position) = recovered
            .rsplit_once("Recovered position: ")
            .unwrap_or_else(|| panic!("no position: {recovered}"));
        let position = position.lines().next().unwrap_or_default();
        let once = [format!("--wsrep-start-position={position}")];
        self.nodes[node].restart_with(&once).await;
        self.up[node] = true;
        self.synced(node).await;
    }

    /// Runs a query on a node; returns one line per row, with tabs between values.
    pub(crate) async fn query(&self, node: usize, sql: &str) -> String {
        self.nodes[node].query(sql).await
    }

    /// Waits until the node has joined all nodes that are up, and is synced.
    async fn synced(&self, node: usize) {
        let up = self.up.iter().filter(|up| **up).count();
        let wanted = format!("{up}\tSynced");
        let state = "SELECT
            MAX(IF(variable_name = 'WSREP_CLUSTER_SIZE', variable_value, NULL)),
            MAX(IF(variable_name = 'WSREP_LOCAL_STATE_COMMENT', variable_value, NULL))
            FROM information_schema.global_status";
        until("a node that is synced", || async {
            (self.nodes[node].try_query(state).await == Ok(wanted.clone())).then_some(())
        })
        .await;
    }
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn provider() -> Result<PathBuf, String> {
    [
        "/usr/lib/galera/libgalera_smm.so",
        "/usr/lib64/galera-4/libgalera_smm.so",
    ]
    .into_iter()
    .map(PathBuf::from)
    .find(|path| path.is_file())
    .ok_or_else(|| "Galera isn't installed".into())
}
