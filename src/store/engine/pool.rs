//! Pools of connections to database servers.

use std::{sync::Arc, time::Duration};

use sea_orm::{DatabaseConnection, DbBackend};
use sqlx::{Connection, Executor, Pool, pool::PoolOptions};

use super::{ConnectionPurpose, Outage, SessionSettings};

/// How long a call waits for a connection before it is rejected as overload.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to answer a ping.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that was idle for longer is tested before use: a firewall or proxy may have dropped it.
const IDLE_TEST_AFTER: Duration = Duration::from_secs(10);

/// A pool of connections to a server for one purpose; they are opened on demand.
pub(super) fn pool<DB>(
    options: <DB::Connection as Connection>::Options,
    sessions: &SessionSettings,
    purpose: ConnectionPurpose,
    connections: u32,
    outage: &Arc<Outage>,
) -> Pool<DB>
where
    DB: sqlx::Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let session = sessions.for_purpose(purpose);
    let (opened, released) = (outage.clone(), outage.clone());
    PoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // Connections are kept: opening one on a busy runtime takes seconds, see `warm_up`.
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_connect(move |connection: &mut DB::Connection, _| {
            Box::pin(async move { connection.execute(session).await.map(drop) })
        })
        .before_acquire(move |connection: &mut DB::Connection, metadata| {
            let unusable = opened.invalidates(metadata.age);
            Box::pin(async move {
                if !unusable && metadata.idle_for > IDLE_TEST_AFTER {
                    // A call must not spend its deadline on a connection that a firewall or proxy has dropped silently.
                    let ping = tokio::time::timeout(PING_TIMEOUT, connection.ping()).await;
                    return Ok(matches!(ping, Ok(Ok(()))));
                }
                Ok(!unusable)
            })
        })
        .after_release(move |connection: &mut DB::Connection, metadata| {
            let unusable = released.invalidates(metadata.age);
            Box::pin(async move {
                // A cancelled call leaves its pending response to the pool, whose own ping has no timeout: it would
                // wait for a silent server. Reads need none: the timeout of the server or the outage ends them.
                if !unusable && purpose != ConnectionPurpose::Read {
                    let ping = tokio::time::timeout(PING_TIMEOUT, connection.ping()).await;
                    ping.map_err(|_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))??;
                }
                Ok(!unusable)
            })
        })
        .connect_lazy_with(options)
}

/// Opens all connections of a PostgreSQL pool in advance. For SCRAM, its driver yields hundreds of times while it opens
/// one, each time until the runtime has nothing else to do: under load, a call would wait for that for seconds, even if
/// other connections have become idle meanwhile.
pub(in crate::store) async fn warm_up(
    db: &DatabaseConnection,
    connections: u32,
) -> Result<(), sqlx::Error> {
    if db.get_database_backend() == DbBackend::Postgres {
        let pool = db.get_postgres_connection_pool();
        let mut open = Vec::new();
        for _ in 0..connections {
            open.push(pool.acquire().await?);
        }
    }
    Ok(())
}
