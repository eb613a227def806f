//! Pools of connections to a server.

use std::{sync::Arc, time::Duration};

use sea_orm::{DatabaseConnection, DbBackend};
use sqlx::{Connection, Executor, Pool, pool::PoolOptions};

use super::{Outage, Sessions, Use};

/// How long a call waits for a connection until it is told that there are too many.
pub(super) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take to answer when it is given back.
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection that was idle for as long is tested before it is used: something between may have dropped it.
const STALE: Duration = Duration::from_secs(10);

/// The settings of a pool of connections to a server.
pub(super) fn pool<DB>(
    options: <DB::Connection as Connection>::Options,
    sessions: &Sessions,
    purpose: Use,
    connections: u32,
    outage: &Arc<Outage>,
) -> Pool<DB>
where
    DB: sqlx::Database,
    for<'c> &'c mut DB::Connection: Executor<'c, Database = DB>,
{
    let session = sessions.begin(purpose);
    let (opened, released) = (outage.clone(), outage.clone());
    PoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // Opening one on a busy runtime takes seconds: see `open_all`.
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_connect(move |connection: &mut DB::Connection, _| {
            Box::pin(async move { connection.execute(session).await.map(drop) })
        })
        .before_acquire(move |connection: &mut DB::Connection, metadata| {
            let outlived = opened.spoils(metadata.age);
            Box::pin(async move {
                if !outlived && metadata.idle_for > STALE {
                    // A call must not spend its time on a connection that something between has dropped silently.
                    let ping = tokio::time::timeout(PING_TIMEOUT, connection.ping()).await;
                    return Ok(matches!(ping, Ok(Ok(()))));
                }
                Ok(!outlived)
            })
        })
        .after_release(move |connection: &mut DB::Connection, metadata| {
            let outlived = released.spoils(metadata.age);
            Box::pin(async move {
                // Whoever gave up waiting for an answer leaves the wait to the pool, which has patience: it must not
                // be spent on a server that has gone silent. Reads are cut short by the server or the outage.
                if !outlived && purpose != Use::Read {
                    let ping = tokio::time::timeout(PING_TIMEOUT, connection.ping()).await;
                    ping.map_err(|_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()))??;
                }
                Ok(!outlived)
            })
        })
        .connect_lazy_with(options)
}

/// Opens as many connections as there may be. For SCRAM, PostgreSQL's driver yields hundreds of times while it opens
/// one, each time until the runtime has nothing else to do: calls under load would wait for that for seconds, beside
/// connections that have become idle meanwhile.
pub(in crate::store) async fn open_all(
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
