//! Reading from the replica.

use std::time::Duration;

use tokio::time::timeout;

use super::{Read, attempt, kind};
use crate::{
    domain::Revision,
    error::{Error, Result},
    store::{Db, replica::Replica},
};

/// How long a replica may take until the primary is asked.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(5);

/// Carries out a read on the replica, if that can be used and is fresh enough.
pub(super) async fn read_replica<R: Read>(
    db: &Db,
    replica: &Replica,
    command: &R,
    wanted: Revision,
) -> Option<(Result<R::Output>, Revision)> {
    // Waiting for a turn here says nothing about the replica.
    let admitted = replica.db.enter(kind(command)).await.ok()?;
    if !replica.is_usable(db, wanted) {
        return None;
    }
    let read = attempt(&replica.db, admitted, command, wanted);
    let read = timeout(REPLICA_TIMEOUT, read).await;
    let silent = |_| {
        (
            Err(Error::Unavailable("it is silent".into())),
            Revision::NONE,
        )
    };
    let (result, seen) = read.unwrap_or_else(silent);
    match result {
        Err(Error::Unavailable(_) | Error::Internal(_)) => replica.doubt(),
        // Our own limits say nothing of the replica; and what a standby applies gets in the way of what is read there.
        Err(Error::Overloaded(_) | Error::Conflict(_)) => {}
        // Behind an address there may be several replicas, and this one may not have come as far.
        result if seen >= wanted && db.is_recent(seen) => {
            // What a replica has is committed, and no later answer may be older.
            db.reach(seen);
            return Some((result, seen));
        }
        _ => {}
    }
    None
}
