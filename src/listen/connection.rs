//! A connection, as bytes.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::{Peer, connections::Counted, preface};
use crate::auth::Identity;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// Whom the caller's certificate names.
    identity: Option<Identity>,
    counted: Counted,
    /// Told when it has to end.
    closing: oneshot::Receiver<()>,
    /// Ready when the caller's certificate has expired.
    expired: Option<Expired>,
    /// What has been read of the stream, to be read again.
    unread: io::Cursor<Vec<u8>>,
}

struct Expired(Pin<Box<dyn Future<Output = ()> + Send>>);

#[derive(Debug)]
enum Stream {
    /// As it is.
    Plain(TcpStream),
    /// Under TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(crate) fn plain(
        stream: TcpStream,
        counted: Counted,
        closing: oneshot::Receiver<()>,
    ) -> Self {
        Self::new(Stream::Plain(stream), None, counted, closing)
    }

    pub(super) fn tls(
        stream: TlsStream<TcpStream>,
        identity: Option<Identity>,
        counted: Counted,
        closing: oneshot::Receiver<()>,
    ) -> Self {
        Self::new(Stream::Tls(Box::new(stream)), identity, counted, closing)
    }

    fn new(
        stream: Stream,
        identity: Option<Identity>,
        counted: Counted,
        closing: oneshot::Receiver<()>,
    ) -> Self {
        Self {
            stream,
            expired: identity.clone().map(Expired::of),
            identity,
            counted,
            closing,
            unread: io::Cursor::default(),
        }
    }

    /// Fails from when it has to end. Looked at by all that HTTP/2 does: it doesn't read while it can't write.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.closing.is_terminated() || Pin::new(&mut self.closing).poll(cx).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if let Some(Expired(expired)) = &mut self.expired
            && expired.as_mut().poll(cx).is_ready()
        {
            self.expired = Some(Expired(Box::pin(std::future::ready(()))));
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Reads how it begins; nothing if that isn't HTTP/2: then it has been answered.
    pub(super) async fn begin(mut self) -> io::Result<Option<Self>> {
        let Some(beginning) = preface::read(&mut self).await? else {
            return Ok(None);
        };
        self.unread = io::Cursor::new(beginning);
        Ok(Some(self))
    }
}

impl Expired {
    fn of(identity: Identity) -> Self {
        Self(Box::pin(async move {
            identity.ended().await;
        }))
    }
}

impl std::fmt::Debug for Expired {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Expired")
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        let stream = match &self.stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_ref().0,
        };
        Peer {
            remote: stream.peer_addr().ok(),
            local: stream.local_addr().ok(),
            identity: self.identity.clone(),
            carrier: self.counted.carrier(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(cx)?;
        if this.unread.position() < this.unread.get_ref().len() as u64 {
            return Pin::new(&mut this.unread).poll_read(cx, buf);
        }
        match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(cx)?;
        match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.check(cx)?;
        match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Stream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Stream::Plain(stream) => stream.is_write_vectored(),
            Stream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.check(cx)?;
        match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
