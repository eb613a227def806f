//! The limit of open files, and how many of them connections may take.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config;

/// Maximum number of connections to the metrics port, from Prometheus and probes.
pub(crate) const MAX_METRICS_CONNECTIONS: usize = 32;
/// File descriptors beside the database and all connections: standard streams, listeners, the runtime, certificates and
/// settings while they are read, connections to a collector and for the keys of JWTs.
const OTHER_DESCRIPTORS: u64 = 32;

/// Raises the limit of open files as far as the process may, and lowers the connection limits to what remains after
/// `database`, the number of files and sockets that the database takes.
///
/// # Errors
/// Nothing remains for connections; the message is for the operator.
pub fn limit_connections(limits: &mut config::Limits, database: u64) -> Result<(), String> {
    let Some(files) = raise_open_file_limit() else {
        return Ok(());
    };
    let reserved = database + OTHER_DESCRIPTORS + MAX_METRICS_CONNECTIONS as u64;
    let room = u32::try_from(files.saturating_sub(reserved)).unwrap_or(u32::MAX);
    if room == 0 {
        return Err(format!(
            "only {files} files may be open (ulimit -n, LimitNOFILE): {reserved} are needed for the database, files \
             and probes, and one for each connection"
        ));
    }
    let config::Limits {
        max_connections,
        max_connections_per_address,
        ..
    } = limits;
    if *max_connections > room {
        // The limit per address keeps its proportion to the limit of all connections.
        let part = u64::from((*max_connections_per_address).min(*max_connections));
        let part = (part * u64::from(room) / u64::from(*max_connections)).max(1);
        *max_connections = room;
        *max_connections_per_address = u32::try_from(part).unwrap_or(room);
        tracing::warn!(
            open_files = files,
            reserved,
            "--max-connections is lowered to {max_connections} and --max-connections-per-address to \
             {max_connections_per_address}: only {files} files may be open (ulimit -n, LimitNOFILE)"
        );
    }
    Ok(())
}

/// Raises the soft limit of open files to the hard one, and returns it; `None` if there is no limit.
fn raise_open_file_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, "cannot raise the open file limit");
        }
    }
    getrlimit(Resource::Nofile).current
}
