//! Reads from the replica.

use std::time::Duration;

use tokio::time::timeout;

use super::{Read, attempt, read_kind};
use crate::{
    domain::Revision,
    error::{Error, Result},
    store::{Db, replica::Replica},
};

/// How long a read may take on the replica before the primary is read instead.
const REPLICA_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs a read on the replica; `None` if the replica can't be used or isn't fresh enough.
pub(super) async fn read_replica<R: Read>(
    db: &Db,
    replica: &Replica,
    command: &R,
    wanted: Revision,
) -> Option<(Result<R::Output>, Revision)> {
    // A rejected admission says nothing about the replica's health, so it stays usable.
    let permit = replica.db.acquire(read_kind(command)).await.ok()?;
    if !replica.is_usable(db, wanted) {
        return None;
    }
    let read = attempt(&replica.db, permit, command, wanted);
    let read = timeout(REPLICA_TIMEOUT, read).await;
    let silent = |_| {
        (
            Err(Error::Unavailable("it is silent".into())),
            Revision::NONE,
        )
    };
    let (result, seen) = read.unwrap_or_else(silent);
    match result {
        Err(Error::Unavailable(_) | Error::Internal(_)) => replica.mark_unusable(),
        // Overload comes from this instance's own limits; conflicts, from the changes that a standby applies.
        Err(Error::Overloaded(_) | Error::Conflict(_)) => {}
        // Several replicas may share the address, and this one may be behind.
        result if seen >= wanted && db.is_fresh(seen) => {
            // What a replica has is committed, and no later response may be older.
            db.record_committed(seen);
            return Some((result, seen));
        }
        _ => {}
    }
    None
}
