//! Accepting connections: TCP, optionally with TLS.

mod connection;
mod connections;
mod file_descriptors;
pub(crate) mod memory;
mod preface;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tonic::codegen::tokio_stream::{Stream, wrappers::ReceiverStream};

pub use self::{
    connection::Connection,
    connections::{ConnectionLimits, Connections, network},
    file_descriptors::limit_connections,
};
use crate::{
    auth::{Identity, JwtAuthenticator, PermissionGrants},
    config::Config,
    tls::{CertificateFiles, Tls},
};
pub(crate) use connections::ConnectionGuard;
pub(crate) use file_descriptors::MAX_METRICS_CONNECTIONS;
pub(crate) use memory::{ConnectionHandle, MemoryReservation};

/// The flow-control window of a stream, in bytes: HTTP/2 buffers at most this much of its requests that no call has
/// read yet.
pub(crate) const FLOW_CONTROL_WINDOW: u32 = 64 << 10;
/// The connection window's share for each concurrent call, in bytes. h2 lets unread small requests take up to half of
/// the window beside their bytes, 256 for each; beyond that it closes the connection with `ENHANCE_YOUR_CALM`.
const WINDOW_PER_CALL: u32 = 512;
/// Timeout of the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of HTTP/2's connection preface. After it, keepalive pings detect a lost peer.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// Delay after the first failed accept; doubled after each further failure, up to [`MAX_ACCEPT_BACKOFF`].
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);
const MAX_ACCEPT_BACKOFF: Duration = Duration::from_secs(1);
/// How often connections without an authenticated call are checked.
const UNAUTHENTICATED_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// TLS, and the callers that certificates and JWTs identify.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// The server's certificate and key, and the clients' authorities; `None` serves plaintext.
    pub tls: Option<Arc<Tls>>,
    /// Permissions of callers that are identified by certificates.
    pub grants: PermissionGrants,
    /// Verifies JWTs, if callers may have them.
    pub jwts: Option<JwtAuthenticator>,
}

impl Security {
    /// Reads the certificates and keys that the configuration names.
    ///
    /// # Errors
    /// What is wrong with them, for the operator.
    pub fn load(config: &Config) -> Result<Self, String> {
        let network = &config.network;
        let files = network.tls_certificate.clone().zip(network.tls_key.clone());
        let tls = files.map(|(certificate, key)| {
            Tls::load(CertificateFiles {
                certificate,
                key,
                client_ca: network.tls_client_ca.clone(),
            })
        });
        let tls = tls.transpose()?.map(Arc::new);
        let callers = &config.callers;
        let grants: PermissionGrants = callers.grants.iter().cloned().collect();
        let jwts = callers.jwt().map(|(keys, issuer, audience)| {
            JwtAuthenticator::load(
                keys.clone(),
                issuer.clone(),
                audience.clone(),
                callers.jwt_type.clone(),
                grants.clone(),
            )
        });
        let jwts = jwts.transpose()?;
        Ok(Self { tls, grants, jwts })
    }
}

/// The flow-control window of a connection with this limit of concurrent calls, in bytes.
pub(crate) fn connection_window(calls: u32) -> u32 {
    calls
        .saturating_mul(WINDOW_PER_CALL)
        .clamp(FLOW_CONTROL_WINDOW, i32::MAX as u32)
}

/// The peer of a connection, attached to each of its requests.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The peer's address.
    pub remote: Option<SocketAddr>,
    /// The local address.
    pub local: Option<SocketAddr>,
    /// The caller that the client certificate identifies, if there is one.
    pub identity: Option<Identity>,
    /// The connection that the calls count against.
    pub(crate) connection: ConnectionHandle,
}

/// Accepts connections until the stream is dropped. Connections beyond the limits are closed.
pub(crate) fn incoming(
    listener: TcpListener,
    security: Security,
    connections: Connections,
) -> impl Stream<Item = io::Result<Connection>> {
    let (ready, taken) = mpsc::channel(1);
    tokio::spawn({
        let (ready, connections) = (ready.clone(), connections.clone());
        async move {
            while timeout(UNAUTHENTICATED_CHECK_INTERVAL, ready.closed())
                .await
                .is_err()
            {
                connections.close_unauthenticated();
            }
        }
    });
    tokio::spawn(async move {
        let security = Arc::new(security);
        loop {
            let (stream, peer) = tokio::select! {
                accepted = accept(&listener) => accepted,
                () = ready.closed() => return,
            };
            let Some((guard, closing)) = connections.register_or_wait(peer.ip()).await else {
                continue;
            };
            // Fails if the connection is closed already.
            let _ = stream.set_nodelay(true);
            let (ready, security) = (ready.clone(), security.clone());
            tokio::spawn(async move {
                // In a task of its own, so that a slow handshake delays no other connection; it counts against the
                // limits all the same.
                if let Some(connection) = establish(stream, &security, guard, closing).await {
                    let _ = ready.send(Ok(connection)).await;
                }
            });
        }
    });
    ReceiverStream::new(taken)
}

/// Accepts the next connection. Errors, such as too many open files, are logged, and accepting is retried with backoff.
pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut backoff = ACCEPT_BACKOFF;
    loop {
        let error = match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => error,
        };
        // The peer has closed it already, which says nothing about the next connection.
        if error.kind() == io::ErrorKind::ConnectionAborted {
            continue;
        }
        tracing::warn!(%error, "cannot accept a connection: retrying in {backoff:?}");
        tokio::time::sleep(backoff).await;
        backoff = (2 * backoff).min(MAX_ACCEPT_BACKOFF);
    }
}

/// Completes the TLS handshake, if TLS is on, and reads HTTP/2's preface; `None` if the connection ends with that.
async fn establish(
    stream: TcpStream,
    security: &Security,
    guard: ConnectionGuard,
    mut closing: oneshot::Receiver<()>,
) -> Option<Connection> {
    let connection = if security.tls.is_none() {
        Connection::plain(stream, guard, closing)
    } else {
        let (stream, identity) = tokio::select! {
            accepted = tls_handshake(stream, security) => accepted?,
            _ = &mut closing => return None,
        };
        // A caller without any permission is treated like one without credentials.
        if let Some(identity) = &identity
            && identity.has_any_permission()
            && !guard.set_caller(identity.key())
        {
            return None;
        }
        Connection::tls(stream, identity, guard, closing)
    };
    let connection = timeout(PREFACE_TIMEOUT, connection.read_preface()).await;
    connection.ok()?.ok()?
}

async fn tls_handshake(
    stream: TcpStream,
    security: &Security,
) -> Option<(TlsStream<TcpStream>, Option<Identity>)> {
    let (acceptor, authorities) = security.tls.as_ref()?.acceptor();
    let peer = stream.peer_addr().ok();
    match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let chain = stream.get_ref().1.peer_certificates();
            let identity = chain.and_then(|chain| security.grants.identify(chain, authorities));
            Some((stream, identity))
        }
        Ok(Err(error)) => {
            tracing::debug!(?peer, %error, "TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}
