//! Taking connections: TCP, and TLS over it.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{rustls::pki_types::CertificateDer, server::TlsStream};
use tonic::{
    codegen::tokio_stream::{Stream, wrappers::ReceiverStream},
    transport::server::Connected,
};

use crate::{
    auth::{Grants, Identity},
    config::Config,
    tls::{Files, Tls},
};

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How many may be under way: who comes beyond that is hung up on.
const MAX_HANDSHAKES: usize = 4096;
/// How long it waits when no connection can be taken, such as for want of descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// How connections are taken.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// Certificates and keys; none, and what is sent can be read on the way.
    pub tls: Option<Arc<Tls>>,
    /// What callers may do whose certificates have these names.
    pub grants: Grants,
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
            Tls::load(Files {
                certificate,
                key,
                client_ca: network.tls_client_ca.clone(),
            })
        });
        Ok(Self {
            tls: tls.transpose()?.map(Arc::new),
            grants: config.callers.grants.iter().cloned().collect(),
        })
    }
}

/// A connection.
#[derive(Debug)]
pub enum Connection {
    /// As it is.
    Plain(TcpStream),
    /// Under TLS, and whom the caller's certificate names.
    Tls(Box<TlsStream<TcpStream>>, Option<Identity>),
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
}

/// Connections as they come in, until whoever takes them stops.
pub(crate) fn incoming(
    listener: TcpListener,
    security: Security,
) -> impl Stream<Item = io::Result<Connection>> {
    let (ready, taken) = mpsc::channel(1);
    tokio::spawn(async move {
        let security = Arc::new(security);
        let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ready.closed() => return,
            };
            let Ok((stream, _)) = stream else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            // Fails for one that is closed already.
            let _ = stream.set_nodelay(true);
            if security.tls.is_none() {
                let _ = ready.send(Ok(Connection::Plain(stream))).await;
                continue;
            }
            let Ok(room) = handshakes.clone().try_acquire_owned() else {
                continue;
            };
            let (ready, security) = (ready.clone(), security.clone());
            tokio::spawn(async move {
                if let Some(connection) = shake_hands(stream, &security).await {
                    let _ = ready.send(Ok(connection)).await;
                }
                drop(room);
            });
        }
    });
    ReceiverStream::new(taken)
}

async fn shake_hands(stream: TcpStream, security: &Security) -> Option<Connection> {
    let acceptor = security.tls.as_ref()?.acceptor();
    let peer = stream.peer_addr().ok();
    match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let certificates = stream.get_ref().1.peer_certificates();
            let certificate = certificates.and_then(|chain| chain.first());
            let identity = certificate.and_then(|one| security.grants.identify(&name(one)?));
            Some(Connection::Tls(Box::new(stream), identity))
        }
        Ok(Err(error)) => {
            tracing::debug!(?peer, %error, "a TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

/// The name of a certificate (subject alternative names): its first URI, or else its first DNS name.
fn name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let mut names = certificate
        .valid_uri_names()
        .chain(certificate.valid_dns_names());
    names.next().map(str::to_owned)
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        let (stream, identity) = match self {
            Self::Plain(stream) => (stream, None),
            Self::Tls(stream, identity) => (stream.get_ref().0, identity.clone()),
        };
        Peer {
            remote: stream.peer_addr().ok(),
            local: stream.local_addr().ok(),
            identity,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream, _) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream, _) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream, _) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream, _) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream, _) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream, _) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
