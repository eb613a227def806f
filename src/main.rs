//! The start-up story: config → telemetry → bind → wait for the database → migrate → serve → drain.

mod command;

use std::{
    io::{self, Write},
    net::SocketAddr,
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use group_service::{
    config::{self, Command, Config, Loaded, Migrate, Refused},
    listen::{Security, limit_connections},
    server::{self, Listeners},
    store::{Db, Settings},
    telemetry::{LogFilter, Telemetry},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// A wrong setting.
const EXIT_USAGE: u8 = 2;
/// How long the process waits for a standard stream to take a line.
const PRINT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the end waits for work that can't be interrupted.
const END_TIMEOUT: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failure(1, &format!("can't start the runtime: {error}")),
    };
    let code = runtime.block_on(start());
    // Dropping it would wait without a bound.
    runtime.shutdown_timeout(END_TIMEOUT);
    code
}

async fn start() -> ExitCode {
    let loaded = match Config::load(std::env::args_os()) {
        Ok(loaded) => loaded,
        Err(refused) => return refuse(refused),
    };
    let telemetry = match Telemetry::start(&loaded.config) {
        Ok(telemetry) => telemetry,
        Err(error) => return failure(1, &format!("can't set up logs and traces: {error}")),
    };
    let result = run(loaded, &telemetry.filter).await;
    telemetry.end().await;
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, reason)) => failure(code, &reason),
    }
}

fn failure(code: u8, reason: &str) -> ExitCode {
    print(io::stderr(), format!("error: {reason}\n"));
    ExitCode::from(code)
}

/// Prints a line. A stream that isn't read holds neither the start nor the end up; one that is closed is passed over.
fn print(mut stream: impl Write + Send + 'static, line: String) {
    let (done, printed) = mpsc::channel();
    let printing = thread::Builder::new().spawn(move || {
        let _ = stream.write_all(line.as_bytes());
        let _ = done.send(());
    });
    if printing.is_ok() {
        let _ = printed.recv_timeout(PRINT_TIMEOUT);
    }
}

async fn run(loaded: Loaded, filter: &LogFilter) -> Result<(), (u8, String)> {
    let config = &loaded.config;
    let settings = settings(config);
    match &config.command {
        Some(Command::Serve) | None => {}
        Some(command) => return command::run(command, &loaded, &settings).await,
    }
    let security = Security::load(config).map_err(|reason| (EXIT_USAGE, reason))?;
    let mut config = config.clone();
    limit_connections(&mut config.limits, settings.descriptors())
        .map_err(|reason| (EXIT_USAGE, reason))?;
    let config = &config;

    // Before the start-up line invites anybody to stop us.
    let shutdown = shutdown().map_err(|error| (1, format!("can't wait for signals: {error}")))?;
    let mut shutdown = std::pin::pin!(shutdown);

    // Bound before the database is opened, so that a second server on a taken address changes nothing.
    let (listener, address) = bind(config.network.listen).await?;
    if config.network.insecure {
        tracing::warn!("insecure: callers aren't known, or what is sent can be read on the way");
    }
    let (metrics, metrics_address) = match config.observing.metrics_listen {
        Some(address) => {
            let (listener, address) = bind(address).await?;
            (
                Some(listener),
                format!(", metrics on http://{address}/metrics"),
            )
        }
        None => (None, String::new()),
    };
    let db = tokio::select! {
        db = Db::open(&settings) => db.map_err(|error| (EXIT_USAGE, error.to_string()))?,
        () = &mut shutdown => return Ok(()),
    };
    let location = &settings.location;
    let how = match &security.tls {
        None => "-plaintext",
        Some(_) => "-cacert ca.pem",
    };

    let line = format!(
        "group-service {} listens on {address}, data in {location}{metrics_address}; \
         try: grpcurl {how} {address} list\n",
        env!("CARGO_PKG_VERSION"),
    );
    print(io::stdout(), line);
    let listeners = Listeners {
        calls: listener,
        metrics,
    };
    let following = tokio::spawn({
        let (loaded, filter) = (loaded.clone(), filter.clone());
        async move { config::follow(&loaded, std::env::args_os().collect(), &filter).await }
    });
    let served = server::run(listeners, security, config, db, shutdown).await;
    following.abort();
    served.map_err(|error| (1, format!("the server failed: {error}")))
}

/// Listens on an address, and tells which one it is.
async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), (u8, String)> {
    let refused = |error| (EXIT_USAGE, format!("can't listen on {address}: {error}"));
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let address = listener
        .local_addr()
        .map_err(|error| (1, format!("can't tell the address listened on: {error}")))?;
    Ok((listener, address))
}

fn settings(config: &Config) -> Settings {
    let database = &config.database;
    let (create, exclusive) = match &config.command {
        Some(Command::Serve) | None => (true, true),
        Some(Command::Migrate { step: Migrate::Up }) => (true, false),
        Some(
            Command::Migrate {
                step: Migrate::Down,
            }
            | Command::NewHistory,
        ) => (false, true),
        // Beside a server.
        Some(_) => (false, false),
    };
    Settings {
        location: database.database_url.clone(),
        replica: database.read_database_url.clone(),
        connections: database.database_connections,
        connect_timeout: database.connect_timeout,
        cache_bytes: database.cache_memory,
        max_staleness: database.max_staleness,
        queue_time: config.limits.queue_time,
        max_queue: config.limits.max_queue,
        create,
        exclusive,
    }
}

/// Resolves at the first SIGTERM or SIGINT.
fn shutdown() -> std::io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Says what is wrong with the settings, in a sentence each; help and version are no errors.
fn refuse(refused: Refused) -> ExitCode {
    let sentences = match refused {
        Refused::Usage(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Refused::Usage(error) => {
            // clap's first paragraph is the sentence; usage and tips follow it.
            let text = error.render().to_string();
            let sentence = text.split("\n\n").next().unwrap_or(&text).trim_end();
            let sentence = sentence.strip_prefix("error: ").unwrap_or(sentence);
            vec![sentence.to_owned()]
        }
        Refused::Mistakes(mistakes) => mistakes,
    };
    for sentence in sentences {
        failure(EXIT_USAGE, &sentence);
    }
    ExitCode::from(EXIT_USAGE)
}
