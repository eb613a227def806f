//! The start-up sequence: config → telemetry → bind → wait for the database → migrate → serve → drain.

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
    config::{self, Command, Config, LoadError, Loaded, MigrateAction},
    listen::{Security, limit_connections},
    server::{self, Listeners},
    store::{Db, Settings},
    telemetry::{LogFilter, Telemetry},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// Exit code for an invalid setting.
const EXIT_USAGE: u8 = 2;
/// How long to wait for a standard stream to accept a line.
const PRINT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the shutdown waits for work that can't be interrupted.
const RUNTIME_SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failure(1, &format!("can't start the runtime: {error}")),
    };
    let code = runtime.block_on(start());
    // Dropping the runtime would wait without a limit.
    runtime.shutdown_timeout(RUNTIME_SHUTDOWN_TIMEOUT);
    code
}

async fn start() -> ExitCode {
    let loaded = match Config::load(std::env::args_os()) {
        Ok(loaded) => loaded,
        Err(refused) => return report_load_error(refused),
    };
    let telemetry = match Telemetry::start(&loaded.config) {
        Ok(telemetry) => telemetry,
        Err(error) => return failure(1, &format!("can't set up logs and traces: {error}")),
    };
    let result = run(loaded, &telemetry.filter).await;
    telemetry.shutdown().await;
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, reason)) => failure(code, &reason),
    }
}

fn failure(code: u8, reason: &str) -> ExitCode {
    print(io::stderr(), format!("error: {reason}\n"));
    ExitCode::from(code)
}

/// Prints a line. A stream that isn't read must not block start-up or shutdown; errors of a closed one are ignored.
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

    // Before the start-up line is printed: from then on, signals are expected.
    let shutdown = shutdown().map_err(|error| (1, format!("can't wait for signals: {error}")))?;
    let mut shutdown = std::pin::pin!(shutdown);

    // Bind before the database is opened, so that a second server on the same address changes nothing.
    let (listener, address) = bind(config.network.listen).await?;
    if config.network.insecure {
        tracing::warn!("insecure: authentication or TLS is off on a non-loopback address");
    }
    let (metrics, metrics_address) = match config.observability.metrics_listen {
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
    let grpcurl_flags = match &security.tls {
        None => "-plaintext",
        Some(_) => "-cacert ca.pem",
    };

    let line = format!(
        "group-service {} listens on {address}, data in {location}{metrics_address}; \
         try: grpcurl {grpcurl_flags} {address} list\n",
        env!("CARGO_PKG_VERSION"),
    );
    print(io::stdout(), line);
    let listeners = Listeners {
        grpc: listener,
        metrics,
    };
    let config_watcher = tokio::spawn({
        let (loaded, filter) = (loaded.clone(), filter.clone());
        async move {
            config::watch_file(&loaded, std::env::args_os().collect(), |log| {
                filter.set(log)
            })
            .await
        }
    });
    let served = server::run(listeners, security, config, db, shutdown).await;
    config_watcher.abort();
    served.map_err(|error| (1, format!("the server failed: {error}")))
}

/// Listens on an address, and returns the actual one.
async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), (u8, String)> {
    let refused = |error| (EXIT_USAGE, format!("cannot listen on {address}: {error}"));
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
        Some(Command::Migrate {
            action: MigrateAction::Up,
        }) => (true, false),
        Some(
            Command::Migrate {
                action: MigrateAction::Down,
            }
            | Command::NewHistory,
        ) => (false, true),
        // Runs beside a server.
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

/// Reports invalid settings, in a sentence each; help and version are not errors.
fn report_load_error(refused: LoadError) -> ExitCode {
    let sentences = match refused {
        LoadError::Usage(error) if !error.use_stderr() => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        LoadError::Usage(error) => {
            // clap's first paragraph is the error; usage and tips follow it.
            let text = error.render().to_string();
            let sentence = text.split("\n\n").next().unwrap_or(&text).trim_end();
            let sentence = sentence.strip_prefix("error: ").unwrap_or(sentence);
            vec![sentence.to_owned()]
        }
        LoadError::Invalid(errors) => errors,
    };
    for sentence in sentences {
        failure(EXIT_USAGE, &sentence);
    }
    ExitCode::from(EXIT_USAGE)
}
