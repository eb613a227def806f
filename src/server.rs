//! Serving: layers, services, health, reflection, and the end of it all.

mod expiry;
mod health;

use std::{future::Future, sync::Arc, time::Duration};

use prost::Message;
use prost_types::FileDescriptorSet;
use tokio::{net::TcpListener, sync::watch};
use tonic::{codec::CompressionEncoding, transport::Server};

use self::{
    expiry::expire,
    health::{end_watches, follow_database, set_health, set_liveness, watch_workers},
};
use crate::{
    auth::{Bearers, Tokens},
    config::{Authentication, Compression, Config},
    feed::Feed,
    grpc::{
        Access, Changes, Deadlines, Decoding, Groups, Guard, Methods, ObserveLayer, Rate, Roles,
        Users,
    },
    listen::{self, Connections, Security, incoming},
    metrics::{self, Calls, Metrics},
    pb::{
        self, access_service_server::AccessServiceServer,
        change_service_server::ChangeServiceServer, group_service_server::GroupServiceServer,
        role_service_server::RoleServiceServer, user_service_server::UserServiceServer,
    },
    store::Db,
    tls::Tls,
};

/// How long calls under way may take once the server is asked to stop. Then those that still wait for the
/// database are refused, and there is as long to answer as [`LAST_WORDS`]: 10 seconds are what it may take.
const DRAIN_TIMEOUT: Duration = Duration::from_millis(4500);
/// How long the refusals may take. A statement under way ends within it.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How long closing the database may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// A peer that is lost is found out by this.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Why serving ended before it was asked to.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Where it listens.
#[derive(Debug)]
pub struct Listeners {
    /// Where calls come in.
    pub calls: TcpListener,
    /// Where Prometheus asks, if it may.
    pub metrics: Option<TcpListener>,
}

/// A service, which compresses if that is wanted. Messages are as large as they may be when they are unpacked.
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

/// Serves until `shutdown` resolves; then takes no more calls, answers those under way, and closes the database.
///
/// # Errors
/// The server can't be set up.
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
    let guard = match config.callers.authentication {
        Authentication::Off => Guard::Off,
        Authentication::Required => {
            let (tokens, jwts) = (Tokens::read(db.clone()).await?, security.jwts.clone());
            if let Some(jwts) = &jwts {
                jwts.begin().await;
            }
            Guard::Required(Arc::new(Bearers { tokens, jwts }))
        }
    };
    let descriptors = [
        pb::FILE_DESCRIPTOR_SET,
        // So that tools can show the details of errors.
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

    let followed = feed.clone();
    let changes = Changes {
        db: db.clone(),
        feed,
    };
    let tls = security.tls.clone();
    let calls = Calls::default();
    let rate = limits.max_rate.map(|rate| Arc::new(Rate::new(rate)));
    let too_often = rate.as_ref().map(|rate| rate.refused());
    let connections = Connections::new(listen::Limits {
        connections: limits.max_connections,
        per_address: limits.max_connections_per_address,
        bytes: limits.message_memory,
        authentication: matches!(guard, Guard::Required(_)),
    });
    let (ready, is_ready) = watch::channel(false);
    let is_alive = watch_workers(health.clone())?;
    let serving = Server::builder()
        .max_concurrent_streams(limits.max_streams)
        .http2_max_header_list_size(u32::try_from(limits.max_header_size).unwrap_or(u32::MAX))
        .initial_connection_window_size(listen::connection_window(limits.max_streams))
        .initial_stream_window_size(listen::WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .layer(ObserveLayer {
            methods: methods(&descriptors, &calls)?,
            guard: guard.clone(),
            deadlines: Deadlines {
                default: limits.default_deadline,
                max: limits.max_deadline,
            },
            rate,
            decoding: Decoding::default(),
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
            incoming(listeners.calls, security, connections.clone()),
            stopping(stopped.clone()),
        );
    let mut serving = std::pin::pin!(serving);
    let watching = tokio::spawn({
        let (db, health, ready) = (db.clone(), health.clone(), ready.clone());
        let alive = is_alive.clone();
        async move { follow_database(&db, &health, &ready, alive).await }
    });

    let expiring = tokio::spawn({
        let db = db.clone();
        async move { expire(&db, changes_retention).await }
    });
    let told = Metrics {
        db: db.clone(),
        feed: followed,
        tls: tls.clone(),
        insecure: config.network.insecure,
        calls,
        connections,
        too_often: too_often.unwrap_or_default(),
        ready: is_ready,
        alive: is_alive,
    };
    let measured = tokio::spawn(metrics::serve(listeners.metrics, told));
    let listening = tokio::spawn({
        let db = db.clone();
        async move {
            tokio::join!(
                db.listen(),
                db.follow_replica(),
                db.follow_changes(),
                guard.keep_up(),
                keep_up(tls)
            )
        }
    });

    let result = tokio::select! {
        result = &mut serving => result,
        () = shutdown => {
            tracing::info!("stopping: answering the calls under way");
            watching.abort();
            // Awaited, so that it can't tell of another health any more.
            let _ = tokio::time::timeout(CLOSE_TIMEOUT, watching).await;
            set_health(&health, &ready, false).await;
            stop.send_replace(true);
            // Those who watch have been told; their streams would go on for ever.
            end_watches(health).await;
            drain(&mut serving, &db).await
        }
    };
    expiring.abort();
    listening.abort();
    measured.abort();
    if tokio::time::timeout(CLOSE_TIMEOUT, db.close())
        .await
        .is_err()
    {
        tracing::warn!("stopping although the database is still busy");
    }
    Ok(result?)
}

/// Goes on looking for other certificates.
async fn keep_up(tls: Option<Arc<Tls>>) {
    if let Some(tls) = tls {
        tls.follow().await;
    }
}

/// Waits for the answers to the calls under way, but not for ever.
async fn drain<E>(
    serving: &mut (impl Future<Output = Result<(), E>> + Unpin),
    db: &Db,
) -> Result<(), E> {
    if let Ok(result) = tokio::time::timeout(DRAIN_TIMEOUT, &mut *serving).await {
        return result;
    }
    tokio::spawn(db.clone().close());
    tokio::time::timeout(LAST_WORDS, serving)
        .await
        .unwrap_or_else(|_| {
            tracing::warn!("stopping although some connections are still open");
            Ok(())
        })
}

/// The names of every RPC in these descriptor sets.
fn methods(descriptor_sets: &[&[u8]], calls: &Calls) -> Result<Methods, Error> {
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
    Ok(Methods::new(names, calls)?)
}
