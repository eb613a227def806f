//! Opening the database: waiting for it, looking at it, and bringing it to this version's schema.

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
    Db, UnderWay,
    cache::Cache,
    change,
    clock::Clock,
    engine::{self, Found, Use, sqlite},
    health::Health,
    location::Location,
    outage::Outage,
    replica::Replica,
    revisions::Revisions,
    settings::Settings,
    timing::Statements,
    write,
};

pub use self::prepare::{Direction, migrate, migrations};
use self::prepare::{Prepared, prepare};

/// How often it is tried again to reach a database that isn't there yet.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
/// How often it is said what is waited for.
const SAY_INTERVAL: Duration = Duration::from_secs(5);
/// How many connections keep up with other instances: with their changes, and with tokens.
const FOLLOWERS: u32 = 2;
/// How long connecting may take at each try.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why the database can't be opened: one sentence for the operator.
#[derive(Debug)]
pub struct OpenError(String);

impl OpenError {
    fn new(location: &Location, reason: &str) -> Self {
        Self(format!("can't open the database {location}: {reason}"))
    }

    fn of(location: &Location, error: &(dyn StdError + 'static)) -> Self {
        let reason = innermost(error);
        // SQLite calls it an input or output error, or a file that can't be opened.
        let full = match location {
            Location::Sqlite(path) => sqlite::no_room(path),
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
    /// Opens the database, and brings it to this version's schema.
    ///
    /// # Errors
    /// One sentence for the operator on what is wrong with the place or the data there.
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
        let statements = Statements::default();
        let mut writer = connect(Use::Write, writers);
        statements.watch(&mut writer);
        // SQLite's readers need one who writes: they may not make the log that they read.
        writer
            .ping()
            .await
            .map_err(|error| OpenError::of(location, &error))?;
        let readers = settings.readers();
        let reader =
            engine::Reader::connect(location, server, readers, limits, &outage, &statements);
        let clock = Clock::new(matches!(location, Location::Sqlite(_)));
        let prober = connect(Use::Look, 1);
        let asked = Instant::now().into_std();
        let found = engine::look(&prober).await;
        let found = found.map_err(|error| OpenError::of(location, &error))?;
        if let Some(time) = found.time {
            clock.learn([asked, Instant::now().into_std()], time);
        }
        let follower = connect(Use::Follow, FOLLOWERS);
        let opened = async {
            engine::open_all(&writer, writers).await?;
            engine::open_all(&follower, FOLLOWERS).await?;
            reader.open_all(readers).await
        };
        if let Err(error) = opened.await {
            tracing::warn!(database = %location, %error, "not all connections to the database could be opened: has it room for as many?");
        }
        let asked = Instant::now().into_std();
        let directory = change::directory(&follower).await;
        let directory = directory.map_err(|error| OpenError::of(location, &error))?;
        Ok(Self {
            writer,
            prober,
            reader,
            follower,
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
            writes: UnderWay::default(),
            clock: Arc::new(clock),
            statements,
            losses: Arc::default(),
            retries: Arc::default(),
            queue: Arc::new(write::Queue::new(limits)),
            cache: Arc::new(Cache::new(settings.cache_bytes, directory.revision)),
        })
    }
}

/// Waits for a server of the database that can be written; for a file there is nothing to wait for, but others
/// who open it.
async fn reach(settings: &Settings) -> Result<(Option<File>, usize), OpenError> {
    let location = &settings.location;
    if let Location::Sqlite(path) = location {
        return Ok((sqlite::alone(path).await, 0));
    }
    let begun = Instant::now();
    let mut said = None;
    loop {
        let mut why = String::new();
        for server in 0..location.servers() {
            match try_server(location, server).await {
                Ok(()) => return Ok((None, server)),
                Err(Absence::Final(reason)) => return Err(OpenError::new(location, &reason)),
                Err(Absence::NotYet(reason)) => why = reason,
            }
        }
        let waited = begun.elapsed();
        if waited >= settings.connect_timeout {
            let reason = format!("{why} (waited {} s for it)", waited.as_secs());
            return Err(OpenError::new(location, &reason));
        }
        if said.is_none_or(|said: Instant| said.elapsed() >= SAY_INTERVAL) {
            said = Some(Instant::now());
            let left = settings.connect_timeout.saturating_sub(waited).as_secs();
            tracing::warn!(database = %location, reason = why, "waiting for the database, for {left} s more");
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Why a server can't be used.
enum Absence {
    /// That won't get better by itself.
    Final(String),
    /// It may yet come up.
    NotYet(String),
}

async fn try_server(location: &Location, server: usize) -> Result<(), Absence> {
    // Not through a pool, which would go on trying and hide the reason.
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
            let reason = innermost(&error);
            return Err(if engine::is_final(&error) {
                Absence::Final(reason)
            } else {
                Absence::NotYet(reason)
            });
        }
        Err(_) => return Err(Absence::NotYet("it doesn't answer".to_owned())),
    }
    let db = engine::connect(location, server, Use::Look, 1, &Arc::default());
    let found = timeout(CONNECT_TIMEOUT, engine::look(&db)).await;
    close(db).await;
    let found = found.map_err(|_| Absence::NotYet("it doesn't answer".to_owned()))?;
    let Found {
        refused,
        not_now,
        clustered: _,
        warnings,
        time: _,
    } = found.map_err(|error| Absence::NotYet(innermost(&error)))?;
    for warning in warnings {
        tracing::warn!(database = %location, "{warning}");
    }
    match (refused, not_now) {
        (Some(reason), _) => Err(Absence::Final(reason)),
        (None, Some(reason)) => Err(Absence::NotYet(reason)),
        (None, None) => Ok(()),
    }
}

pub(super) async fn close(db: DatabaseConnection) {
    // What can't be closed is gone already.
    let _ = timeout(CONNECT_TIMEOUT, db.close()).await;
}

/// The server's or the driver's own words, without the layers around them.
pub(super) fn innermost(mut error: &(dyn StdError + 'static)) -> String {
    let server = error.downcast_ref().and_then(engine::server_error);
    if let Some(server) = server {
        return server.message().to_owned();
    }
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
