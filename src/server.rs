//! The server: layers, services, health, reflection, and shutdown.

mod expiry;
mod health;

use std::{future::Future, sync::Arc, time::Duration};

use prost::Message;
use prost_types::FileDescriptorSet;
use tokio::{net::TcpListener, sync::watch};
use tonic::{codec::CompressionEncoding, transport::Server};

use self::{
    expiry::expire,
    health::{
        end_health_watches, monitor_database, set_health, set_liveness, spawn_worker_monitor,
    },
};
use crate::{
    auth::{BearerAuthenticator, TokenAuthenticator},
    config::{Authentication, Compression, Config},
    feed::Feed,
    grpc::{
        Access, Authorizer, CallLayer, Changes, Deadlines, DecodeLimiter, Groups, RateLimiter,
        Roles, RpcTable, Users,
    },
    listen::{self, Connections, Security, incoming},
    metrics::{self, CallMetrics, Metrics},
    pb::{
        self, access_service_server::AccessServiceServer,
        change_service_server::ChangeServiceServer, group_service_server::GroupServiceServer,
        role_service_server::RoleServiceServer, user_service_server::UserServiceServer,
    },
    store::Db,
    tls::Tls,
};

/// How long in-flight calls may take after shutdown begins. Then calls that still wait for the database are rejected,
/// and have [`REJECTION_GRACE`] to end: the whole shutdown must fit into 10 seconds.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(4500);
/// How long those rejections may take. A running statement ends within this time.
const REJECTION_GRACE: Duration = Duration::from_secs(3);
/// Timeout of closing the database.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval of HTTP/2 keepalive pings, which detect lost peers.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
/// How long a peer may take to answer a ping before the connection is closed.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Why the server couldn't start, or ended before shutdown.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The sockets that the server listens on.
#[derive(Debug)]
pub struct Listeners {
    /// The socket for gRPC.
    pub grpc: TcpListener,
    /// The socket for metrics and probes, if there is one.
    pub metrics: Option<TcpListener>,
}

/// A service, with compression if that is configured. The maximum message size applies to decompressed messages.
macro_rules! service {
    ($compression:expr, $server:ident, $service:expr) => {
        match $compression {
            Compression::Off => $server::new($service),
            Compression::Gzip => $server::new($service)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip),
        }
    };
}

/// Serves until `shutdown` resolves; then accepts no more calls, drains those in flight, and closes the database.
///
/// # Errors
/// The server can't be set up, or fails while it serves.
pub async fn run(
    listeners: Listeners,
    security: Security,
    config: &Config,
    db: Db,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let limits = &config.limits;
    let compression = config.network.compression;
    let changes_retention = config.database.changes_retention;
    let authorizer = match config.callers.authentication {
        Authentication::Off => Authorizer::Off,
        Authentication::Required => {
            let (tokens, jwts) = (
                TokenAuthenticator::read(db.clone()).await?,
                security.jwts.clone(),
            );
            if let Some(jwts) = &jwts {
                jwts.load_initial_keys().await;
            }
            Authorizer::Required(Arc::new(BearerAuthenticator { tokens, jwts }))
        }
    };
    let descriptors = [
        pb::FILE_DESCRIPTOR_SET,
        // So that tools can decode the details of errors.
        tonic_types::pb::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let reflection = || {
        descriptors.iter().fold(
            tonic_reflection::server::Builder::configure(),
            |builder, set| builder.register_encoded_file_descriptor_set(set),
        )
    };
    let reflects = config.network.reflection;
    let (health, health_service) = tonic_health::server::health_reporter();
    set_liveness(&health, true).await;
    let (stop, stopped) = watch::channel(false);
    let feed = Feed::new(db.clone(), stopped.clone(), limits.max_watchers);
    let stopping = |mut stopped: watch::Receiver<bool>| async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };

    let watched_feed = feed.clone();
    let changes = Changes {
        db: db.clone(),
        feed,
    };
    let tls = security.tls.clone();
    let calls = CallMetrics::default();
    let rate_limiter = limits.max_rate.map(|rate| Arc::new(RateLimiter::new(rate)));
    let rate_limited = rate_limiter
        .as_ref()
        .map(|rate_limiter| rate_limiter.refused());
    let connections = Connections::new(listen::ConnectionLimits {
        connections: limits.max_connections,
        per_address: limits.max_connections_per_address,
        bytes: limits.message_memory,
        authentication: matches!(authorizer, Authorizer::Required(_)),
    });
    let (ready, is_ready) = watch::channel(false);
    let is_alive = spawn_worker_monitor(health.clone())?;
    let serving = Server::builder()
        .max_concurrent_streams(limits.max_streams)
        .http2_max_header_list_size(u32::try_from(limits.max_header_size).unwrap_or(u32::MAX))
        .initial_connection_window_size(listen::connection_window(limits.max_streams))
        .initial_stream_window_size(listen::FLOW_CONTROL_WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .layer(CallLayer {
            rpcs: rpc_table(&descriptors, &calls)?,
            authorizer: authorizer.clone(),
            deadlines: Deadlines {
                default: limits.default_deadline,
                max: limits.max_deadline,
            },
            rate_limiter,
            decode_limiter: DecodeLimiter::default(),
        })
        .add_service(service!(
            compression,
            AccessServiceServer,
            Access(db.clone())
        ))
        .add_service(service!(compression, ChangeServiceServer, changes))
        .add_service(service!(
            compression,
            GroupServiceServer,
            Groups(db.clone())
        ))
        .add_service(service!(compression, RoleServiceServer, Roles(db.clone())))
        .add_service(service!(compression, UserServiceServer, Users(db.clone())))
        .add_service(health_service)
        .add_optional_service(reflects.then(|| reflection().build_v1()).transpose()?)
        .add_optional_service(reflects.then(|| reflection().build_v1alpha()).transpose()?)
        .serve_with_incoming_shutdown(
            incoming(listeners.grpc, security, connections.clone()),
            stopping(stopped.clone()),
        );
    let mut serving = std::pin::pin!(serving);
    let watching = tokio::spawn({
        let (db, health, ready) = (db.clone(), health.clone(), ready.clone());
        let alive = is_alive.clone();
        async move { monitor_database(&db, &health, &ready, alive).await }
    });

    let expiring = tokio::spawn({
        let db = db.clone();
        async move { expire(&db, changes_retention).await }
    });
    let metric_sources = Metrics {
        db: db.clone(),
        feed: watched_feed,
        tls: tls.clone(),
        insecure: config.network.insecure,
        calls,
        connections,
        rate_limited: rate_limited.unwrap_or_default(),
        ready: is_ready,
        alive: is_alive,
    };
    let metrics_task = tokio::spawn(metrics::serve(listeners.metrics, metric_sources));
    let listening = tokio::spawn({
        let db = db.clone();
        async move {
            tokio::join!(
                db.listen_for_revisions(),
                db.poll_replica(),
                db.sync_cache(),
                authorizer.keep_refreshed(),
                watch_certificates(tls)
            )
        }
    });

    let result = tokio::select! {
        result = &mut serving => result,
        () = shutdown => {
            tracing::info!("shutting down: draining in-flight calls");
            watching.abort();
            // Awaited, so that the task can't report another health status afterwards.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, watching).await;
            set_health(&health, &ready, false).await;
            stop.send_replace(true);
            // Health watchers have been notified; their streams wouldn't end by themselves.
            end_health_watches(health).await;
            drain(&mut serving, &db).await
        }
    };
    expiring.abort();
    listening.abort();
    metrics_task.abort();
    if tokio::time::timeout(CLOSE_TIMEOUT, db.close())
        .await
        .is_err()
    {
        tracing::warn!("shutdown: database did not close in time");
    }
    Ok(result?)
}

/// Reloads certificates when they change.
async fn watch_certificates(tls: Option<Arc<Tls>>) {
    if let Some(tls) = tls {
        tls.watch_files().await;
    }
}

/// Waits for in-flight calls to end, up to the timeouts of shutdown.
async fn drain<E>(
    serving: &mut (impl Future<Output = Result<(), E>> + Unpin),
    db: &Db,
) -> Result<(), E> {
    if let Ok(result) = tokio::time::timeout(DRAIN_TIMEOUT, &mut *serving).await {
        return result;
    }
    tokio::spawn(db.clone().close());
    tokio::time::timeout(REJECTION_GRACE, serving)
        .await
        .unwrap_or_else(|_| {
            tracing::warn!("shutdown: connections still open after the drain timeout");
            Ok(())
        })
}

/// The table of all RPCs in these descriptor sets.
fn rpc_table(descriptor_sets: &[&[u8]], calls: &CallMetrics) -> Result<RpcTable, Error> {
    let mut names = Vec::new();
    for set in descriptor_sets {
        for file in FileDescriptorSet::decode(*set)?.file {
            for service in &file.service {
                for method in &service.method {
                    names.push(format!(
                        "{}.{}/{}",
                        file.package(),
                        service.name(),
                        method.name()
                    ));
                }
            }
        }
    }
    Ok(RpcTable::new(names, calls)?)
}
