//! Opening the database: waiting for it, inspecting it, and migrating it to this version's schema.

mod prepare;

use std::{
    error::Error as StdError,
    fs::File,
    sync::{Arc, Mutex},
    time::Duration,
};

use sea_orm::{DatabaseConnection, DbErr, RuntimeErr};
use sqlx::ConnectOptions;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Db, InFlightWrites,
    cache::Cache,
    change,
    clock::Clock,
    engine::{self, ConnectionPurpose, ServerStatus, sqlite},
    health::Health,
    location::Location,
    metrics::StatementMetrics,
    outage::Outage,
    replica::Replica,
    revisions::Revisions,
    settings::Settings,
    write,
};

pub use self::prepare::{Direction, migrate, migrations};
use self::prepare::{Prepared, prepare};

/// Delay before connecting to a database that is unavailable is retried.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// How often waiting for the database is logged.
const LOG_INTERVAL: Duration = Duration::from_secs(5);
/// How many connections read what other instances commit: changes and tokens.
const SYNC_CONNECTIONS: u32 = 2;
/// How long each attempt to connect may take; also each inspection, and closing.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the database can't be opened: one sentence for the operator.
#[derive(Debug)]
pub struct OpenError(String);

impl OpenError {
    fn new(location: &Location, reason: &str) -> Self {
        Self(format!("can't open the database {location}: {reason}"))
    }

    fn from_error(location: &Location, error: &(dyn StdError + 'static)) -> Self {
        let reason = root_cause(error);
        // SQLite reports a full disk as an I/O error, or as a file that can't be opened.
        let full = match location {
            Location::Sqlite(path) => sqlite::disk_full_reason(path),
            _ => None,
        };
        Self::new(location, &full.unwrap_or(reason))
    }
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for OpenError {}

impl Db {
    /// Opens the database, and migrates it to this version's schema.
    ///
    /// # Errors
    /// One sentence for the operator about what is wrong with the location or its data.
    pub async fn open(settings: &Settings) -> Result<Self, OpenError> {
        let Settings {
            location,
            replica,
            connections,
            ..
        } = settings;
        let outage = Arc::new(Outage::default());
        let Prepared { server, file, lock } = prepare(settings, Direction::Up).await?;
        let connect =
            |purpose, connections| engine::connect(location, server, purpose, connections, &outage);
        let writers = settings.writers();
        let limits = settings.limits();
        let statements = StatementMetrics::default();
        let mut writer = connect(ConnectionPurpose::Write, writers);
        statements.instrument(&mut writer);
        // SQLite's read-only connections can't create the write-ahead log that they read; the writer does.
        writer
            .ping()
            .await
            .map_err(|error| OpenError::from_error(location, &error))?;
        let readers = settings.readers();
        let reader =
            engine::ReadPool::connect(location, server, readers, limits, &outage, &statements);
        let clock = Clock::new(matches!(location, Location::Sqlite(_)));
        let prober = connect(ConnectionPurpose::Probe, 1);
        let asked = Instant::now().into_std();
        let found = engine::inspect(&prober).await;
        let found = found.map_err(|error| OpenError::from_error(location, &error))?;
        if let Some(time) = found.time {
            clock.synchronize([asked, Instant::now().into_std()], time);
        }
        let sync_pool = connect(ConnectionPurpose::Sync, SYNC_CONNECTIONS);
        let opened = async {
            engine::warm_up(&writer, writers).await?;
            engine::warm_up(&sync_pool, SYNC_CONNECTIONS).await?;
            reader.warm_up(readers).await
        };
        if let Err(error) = opened.await {
            tracing::warn!(database = %location, %error, "not all connections to the database could be opened: has it room for as many?");
        }
        let asked = Instant::now().into_std();
        let directory = change::read_directory(&sync_pool).await;
        let directory = directory.map_err(|error| OpenError::from_error(location, &error))?;
        Ok(Self {
            writer,
            prober,
            reader,
            sync_pool,
            replica: replica.as_ref().map(|location| {
                let history = directory.history_id;
                Arc::new(Replica::new(
                    location,
                    *connections,
                    history,
                    limits,
                    &statements,
                ))
            }),
            health: Arc::new(Health::new(location.clone(), file, server, outage.clone())),
            lock: Arc::new(Mutex::new(lock)),
            revisions: Arc::new(Revisions::new(
                asked,
                directory.revision,
                settings.max_queue,
            )),
            max_staleness: settings.max_staleness,
            writes: InFlightWrites::default(),
            clock: Arc::new(clock),
            statements,
            data_losses: Arc::default(),
            retries: Arc::default(),
            queue: Arc::new(write::WriteQueue::new(limits)),
            cache: Arc::new(Cache::new(settings.cache_bytes, directory.revision)),
        })
    }
}

/// Waits for a server of the database that can be written, and returns its index. For a SQLite file, waits only for
/// other processes that are opening it, and returns the lock that keeps them out.
async fn wait_for_server(settings: &Settings) -> Result<(Option<File>, usize), OpenError> {
    let location = &settings.location;
    if let Location::Sqlite(path) = location {
        return Ok((sqlite::lock_directory(path).await, 0));
    }
    let begun = Instant::now();
    let mut last_logged = None;
    loop {
        let mut why = String::new();
        for server in 0..location.servers() {
            match try_server(location, server).await {
                Ok(()) => return Ok((None, server)),
                Err(Unavailability::Permanent(reason)) => {
                    return Err(OpenError::new(location, &reason));
                }
                Err(Unavailability::Temporary(reason)) => why = reason,
            }
        }
        let waited = begun.elapsed();
        if waited >= settings.connect_timeout {
            let reason = format!("{why} (waited {} s for it)", waited.as_secs());
            return Err(OpenError::new(location, &reason));
        }
        if last_logged.is_none_or(|last_logged: Instant| last_logged.elapsed() >= LOG_INTERVAL) {
            last_logged = Some(Instant::now());
            let left = settings.connect_timeout.saturating_sub(waited).as_secs();
            tracing::warn!(database = %location, reason = why, "waiting for the database, for {left} s more");
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Why a server can't be used.
enum Unavailability {
    /// Retrying doesn't help.
    Permanent(String),
    /// It may become available.
    Temporary(String),
}

async fn try_server(location: &Location, server: usize) -> Result<(), Unavailability> {
    // Not through a pool, which would keep retrying and hide the reason.
    let connected = async {
        match location {
            Location::Sqlite(_) => Ok(()),
            Location::Postgres(servers) => servers.options[server].connect().await.map(drop),
            Location::MySql(servers) => servers.options[server].connect().await.map(drop),
        }
    };
    match timeout(CONNECT_TIMEOUT, connected).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            let error = DbErr::Conn(RuntimeErr::SqlxError(error.into()));
            let reason = root_cause(&error);
            return Err(if engine::is_permanent(&error) {
                Unavailability::Permanent(reason)
            } else {
                Unavailability::Temporary(reason)
            });
        }
        Err(_) => return Err(Unavailability::Temporary("it doesn't answer".to_owned())),
    }
    let db = engine::connect(
        location,
        server,
        ConnectionPurpose::Probe,
        1,
        &Arc::default(),
    );
    let found = timeout(CONNECT_TIMEOUT, engine::inspect(&db)).await;
    close(db).await;
    let found = found.map_err(|_| Unavailability::Temporary("it doesn't answer".to_owned()))?;
    let ServerStatus {
        unsupported,
        not_writable,
        clustered: _,
        warnings,
        time: _,
    } = found.map_err(|error| Unavailability::Temporary(root_cause(&error)))?;
    for warning in warnings {
        tracing::warn!(database = %location, "{warning}");
    }
    match (unsupported, not_writable) {
        (Some(reason), _) => Err(Unavailability::Permanent(reason)),
        (None, Some(reason)) => Err(Unavailability::Temporary(reason)),
        (None, None) => Ok(()),
    }
}

pub(super) async fn close(db: DatabaseConnection) {
    // A connection that can't be closed is lost already.
    let _ = timeout(CONNECT_TIMEOUT, db.close()).await;
}

/// The message of the server or the driver, without the layers of errors around it.
pub(super) fn root_cause(mut error: &(dyn StdError + 'static)) -> String {
    let server = error.downcast_ref().and_then(engine::server_error);
    if let Some(server) = server {
        return server.message().to_owned();
    }
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
