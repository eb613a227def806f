//! Taking connections: TCP, and TLS over it.

mod connection;
mod connections;
mod descriptors;
pub(crate) mod load;
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
    connections::{Connections, Limits, network},
    descriptors::limit_connections,
};
use crate::{
    auth::{Grants, Identity, Jwts},
    config::Config,
    tls::{Files, Tls},
};
pub(crate) use connections::Counted;
pub(crate) use descriptors::MAX_METRICS_CONNECTIONS;
pub(crate) use load::{Carrier, Load};

/// The flow-control window of a stream: HTTP/2 buffers at most this many bytes of its requests that no call has read yet.
pub(crate) const WINDOW: u32 = 64 << 10;
/// The part of a connection's window for each call. Half of it is what h2 allows small requests that aren't read yet to
/// take beside their bytes, 256 for each: beyond that it ends the connection with ENHANCE_YOUR_CALM.
const WINDOW_PER_CALL: u32 = 512;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long HTTP/2's first bytes may take. From then on pings find out whether the other end is there.
const BEGINNING_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it waits when no connection can be accepted; twice as long each further time, up to the second one.
const PAUSE: Duration = Duration::from_millis(50);
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked for connections without an authenticated call.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How connections are taken, and who is known on them.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// Certificates and keys; none, and what is sent can be read on the way.
    pub tls: Option<Arc<Tls>>,
    /// What callers may do whose certificates have these names.
    pub grants: Grants,
    /// The JWTs that callers are known by.
    pub jwts: Option<Jwts>,
}

impl Security {
    /// Reads the certificates and keys, callers' too, that the configuration names.
    ///
    /// # Errors
    /// What is wrong with them, for the operator.
    pub fn load(config: &Config) -> Result<Self, String> {
        let network = &config.network;
        let files = network.tls_certificate.clone().zip(network.tls_key.clone());
        let tls = files.map(|(certificate, key)| {
            Tls::load(Files {
                certificate,
                key,
                client_ca: network.tls_client_ca.clone(),
            })
        });
        let tls = tls.transpose()?.map(Arc::new);
        let callers = &config.callers;
        let grants: Grants = callers.grants.iter().cloned().collect();
        let jwts = callers.jwt().map(|(keys, issuer, audience)| {
            Jwts::load(
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

/// The flow-control window of a connection that may have so many calls at once.
pub(crate) fn connection_window(calls: u32) -> u32 {
    calls
        .saturating_mul(WINDOW_PER_CALL)
        .clamp(WINDOW, i32::MAX as u32)
}

/// Who is at the other end, beside every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The address of the other end.
    pub remote: Option<SocketAddr>,
    /// Ours.
    pub local: Option<SocketAddr>,
    /// Whom the certificate names, if there is one.
    pub identity: Option<Identity>,
    /// What calls are counted on.
    pub(crate) carrier: Carrier,
}

/// Connections as they come in, until whoever takes them stops. Those beyond the limits are hung up on.
pub(crate) fn incoming(
    listener: TcpListener,
    security: Security,
    connections: Connections,
) -> impl Stream<Item = io::Result<Connection>> {
    let (ready, taken) = mpsc::channel(1);
    tokio::spawn({
        let (ready, connections) = (ready.clone(), connections.clone());
        async move {
            while timeout(LOOK_INTERVAL, ready.closed()).await.is_err() {
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
            let Some((counted, closing)) = connections.take_in_turn(peer.ip()).await else {
                continue;
            };
            // Fails for one that is closed already.
            let _ = stream.set_nodelay(true);
            let (ready, security) = (ready.clone(), security.clone());
            tokio::spawn(async move {
                // One that takes its time to begin holds up no other, but is counted like any connection.
                if let Some(connection) = begin(stream, &security, counted, closing).await {
                    let _ = ready.send(Ok(connection)).await;
                }
            });
        }
    });
    ReceiverStream::new(taken)
}

/// The next connection. Why none can be accepted is logged, such as that too many files are open.
pub(crate) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut pause = PAUSE;
    loop {
        let error = match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => error,
        };
        // The other end has closed it already: that says nothing about the next one.
        if error.kind() == io::ErrorKind::ConnectionAborted {
            continue;
        }
        tracing::warn!(%error, "a connection can't be accepted: tried again in {pause:?}");
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(MAX_PAUSE);
    }
}

/// Shakes hands, if that is wanted, and reads HTTP/2's first bytes; nothing if it ends with that.
async fn begin(
    stream: TcpStream,
    security: &Security,
    counted: Counted,
    mut closing: oneshot::Receiver<()>,
) -> Option<Connection> {
    let connection = if security.tls.is_none() {
        Connection::plain(stream, counted, closing)
    } else {
        let (stream, identity) = tokio::select! {
            shaken = shake_hands(stream, security) => shaken?,
            _ = &mut closing => return None,
        };
        // A caller without any permission is treated like one without credentials.
        if let Some(identity) = &identity
            && identity.may_anything()
            && !counted.is_of(identity.key())
        {
            return None;
        }
        Connection::tls(stream, identity, counted, closing)
    };
    let begun = timeout(BEGINNING_TIMEOUT, connection.begin()).await;
    begun.ok()?.ok()?
}

async fn shake_hands(
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
            tracing::debug!(?peer, %error, "a TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}
