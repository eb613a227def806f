//! The start-up story: config → telemetry → bind → wait for the database → migrate → serve → drain.

use std::{io::Write, net::SocketAddr, process::ExitCode, sync::Arc};

use clap::Parser;
use group_service::{
    config::{Authentication, Command, Config, Migrate, TokenStep},
    domain::{Timestamp, Token},
    entity,
    error::Error,
    listen::Security,
    server,
    store::{self, Db, Direction, Location, Migration, Settings},
    telemetry::{self, Lines},
    tls::{Files, Tls},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// A wrong setting.
const EXIT_USAGE: u8 = 2;

#[tokio::main]
async fn main() -> ExitCode {
    let config = match Config::try_parse() {
        Ok(config) => config,
        Err(error) => return usage(&error),
    };
    let lines = match Lines::start() {
        Ok(lines) => lines,
        Err(error) => return failure(1, &format!("can't set up logging: {error}")),
    };
    let result = run(config, lines.clone()).await;
    lines.flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, reason)) => failure(code, &reason),
    }
}

fn failure(code: u8, reason: &str) -> ExitCode {
    // Standard error may be closed; there is nobody left to tell then.
    let _ = writeln!(std::io::stderr(), "error: {reason}");
    ExitCode::from(code)
}

async fn run(config: Config, lines: Lines) -> Result<(), (u8, String)> {
    let subscriber = telemetry::subscriber(config.log.clone(), lines, None);
    tracing::subscriber::set_global_default(subscriber)
        .map_err(|error| (1, format!("can't set up logging: {error}")))?;

    let settings = settings(&config).map_err(|reason| (EXIT_USAGE, reason))?;
    match &config.command {
        Some(Command::Migrate { step }) => {
            return migrate(&settings, *step)
                .await
                .map_err(|error| (EXIT_USAGE, error.to_string()));
        }
        Some(Command::Token { step }) => return token(&settings, step).await,
        Some(Command::Serve) | None => {}
    }
    if !(config.insecure || config.listen.ip().is_loopback() || is_safe(&config)) {
        let reason = format!(
            "--listen {}: beyond loopback it takes --tls-certificate and --authentication required, or --insecure",
            config.listen
        );
        return Err((EXIT_USAGE, reason));
    }
    let security = security(&config).map_err(|reason| (EXIT_USAGE, reason))?;

    // Before the start-up line invites anybody to stop us.
    let shutdown = shutdown().map_err(|error| (1, format!("can't wait for signals: {error}")))?;
    let mut shutdown = std::pin::pin!(shutdown);

    // Bound before the database is opened, so that a second server on a taken address changes nothing.
    let (listener, address) = bind(config.listen).await?;
    if config.insecure {
        tracing::warn!("insecure: callers aren't known, or what is sent can be read on the way");
    }
    let (metrics, metrics_address) = match config.metrics_listen {
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

    let _ = writeln!(
        std::io::stdout(),
        "group-service {} listens on {address}, data in {location}{metrics_address}; \
         try: grpcurl -plaintext {address} list",
        env!("CARGO_PKG_VERSION"),
    );
    let serving = server::Settings {
        listener,
        security,
        metrics,
        changes_retention: config.changes_retention,
        compression: config.compression,
        authentication: config.authentication,
        insecure: config.insecure,
    };
    server::run(serving, db, shutdown)
        .await
        .map_err(|error| (1, format!("the server failed: {error}")))
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

/// Whether callers are known, and nobody else can read or change what is sent.
fn is_safe(config: &Config) -> bool {
    config.tls_certificate.is_some() && config.authentication == Authentication::Required
}

fn security(config: &Config) -> Result<Security, String> {
    let tls = match (&config.tls_certificate, &config.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::load(Files {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: config.tls_client_ca.clone(),
        })?),
        (None, None) if config.tls_client_ca.is_none() => None,
        _ => return Err("TLS takes --tls-certificate and --tls-key".to_owned()),
    };
    Ok(Security {
        tls: tls.map(Arc::new),
        grants: config.grants.iter().cloned().collect(),
    })
}

fn settings(config: &Config) -> Result<Settings, String> {
    let replica = config.read_database_url.as_deref().map(Location::parse);
    let replica = replica
        .transpose()
        .map_err(|reason| format!("--read-database-url: {reason}"))?;
    Ok(Settings {
        location: Location::parse(&config.database_url)?,
        replica,
        connections: config.database_connections,
        connect_timeout: config.connect_timeout,
        cache_bytes: config.cache_memory,
    })
}

async fn token(settings: &Settings, step: &TokenStep) -> Result<(), (u8, String)> {
    let db = Db::open(settings).await;
    let db = db.map_err(|error| (EXIT_USAGE, error.to_string()))?;
    let result = look_after_tokens(&db, step).await;
    db.close().await;
    result.map_err(|error| (1, error))
}

async fn look_after_tokens(db: &Db, step: &TokenStep) -> Result<(), String> {
    let failed = |error: Error| error.to_string();
    match step {
        TokenStep::Create {
            caller,
            permissions,
            expires,
        } => {
            let token = Token::generate()
                .map_err(|error| format!("the system has no random bits: {error}"))?;
            let expires_at = expires.map(|time| Timestamp::now().after(time));
            let row = store::token::add(db, &token, caller.clone(), *permissions, expires_at);
            let row = row.await.map_err(failed)?;
            let _ = writeln!(std::io::stdout(), "{}", token.reveal());
            let _ = writeln!(std::io::stderr(), "not shown again: {}", line(&row));
        }
        TokenStep::List => {
            for row in store::token::list(db).await.map_err(failed)? {
                let _ = writeln!(std::io::stdout(), "{}", line(&row));
            }
        }
        TokenStep::Revoke { id } => {
            if !store::token::revoke(db, *id).await.map_err(failed)? {
                return Err(format!("there is no token {id} to revoke"));
            }
        }
    }
    Ok(())
}

/// What may be told of a token.
fn line(row: &entity::token::Model) -> String {
    let now = Timestamp::now();
    let state = match (row.revoked_at, row.expires_at) {
        (Some(revoked), _) => format!("revoked {}", told(revoked)),
        (None, Some(expires)) if expires <= now => format!("expired {}", told(expires)),
        (None, Some(expires)) => format!("until {}", told(expires)),
        (None, None) => "until it is revoked".to_owned(),
    };
    format!(
        "{}  {:<22}  {}  {state}",
        row.id,
        row.permissions,
        row.caller.as_str()
    )
}

/// A time as RFC 3339 has it, to the second.
fn told(time: Timestamp) -> String {
    let seconds = time.micros().div_euclid(1_000_000);
    prost_types::Timestamp { seconds, nanos: 0 }.to_string()
}

async fn migrate(settings: &Settings, step: Migrate) -> Result<(), store::OpenError> {
    match step {
        Migrate::Up => store::migrate(settings, Direction::Up).await.map(drop)?,
        Migrate::Down => store::migrate(settings, Direction::Down).await.map(drop)?,
        Migrate::Status => {}
    }
    for Migration {
        name,
        applied,
        known,
    } in store::migrations(settings).await?
    {
        let state = match (applied, known) {
            (true, true) => "applied",
            (true, false) => "applied, by a newer version",
            (false, _) => "pending",
        };
        let _ = writeln!(std::io::stdout(), "{name}  {state}");
    }
    Ok(())
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

/// Says in one sentence what is wrong with the settings; help and version are no errors.
fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    // clap's first paragraph is the sentence; usage and tips follow it.
    let text = error.render().to_string();
    let sentence = text.split("\n\n").next().unwrap_or(&text);
    let _ = writeln!(std::io::stderr(), "{}", sentence.trim_end());
    ExitCode::from(EXIT_USAGE)
}
