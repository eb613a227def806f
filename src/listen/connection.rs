//! A connection's byte stream.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::oneshot,
    task::coop,
    time::{Sleep, sleep},
};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::{Peer, connections::ConnectionGuard, preface};
use crate::auth::Identity;

/// How much of tokio's cooperative budget (128 units) each read uses up. A read can bring many calls, so a connection
/// yields to others after a few reads.
const READ_COOP_COST: u32 = 32;
/// How long reading pauses for each call that was rejected on the connection.
const REJECTION_BACKOFF: Duration = Duration::from_millis(10);
const MAX_REJECTION_BACKOFF: Duration = Duration::from_secs(1);

/// An accepted connection.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    /// The caller that the client certificate identifies.
    identity: Option<Identity>,
    guard: ConnectionGuard,
    /// Resolves when the connection must close.
    closing: oneshot::Receiver<()>,
    /// Resolves when the client certificate has expired, or its authority was removed.
    expiry: Option<ExpiryTimer>,
    /// Resolves when the connection may be read again.
    backoff: Option<Pin<Box<Sleep>>>,
    /// Bytes that were read to check the preface, to be read again.
    read_ahead: io::Cursor<Vec<u8>>,
}

struct ExpiryTimer(Pin<Box<dyn Future<Output = ()> + Send>>);

#[derive(Debug)]
enum Stream {
    /// Plaintext.
    Plain(TcpStream),
    /// TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    pub(crate) fn plain(
        stream: TcpStream,
        guard: ConnectionGuard,
        closing: oneshot::Receiver<()>,
    ) -> Self {
        Self::new(Stream::Plain(stream), None, guard, closing)
    }

    pub(super) fn tls(
        stream: TlsStream<TcpStream>,
        identity: Option<Identity>,
        guard: ConnectionGuard,
        closing: oneshot::Receiver<()>,
    ) -> Self {
        Self::new(Stream::Tls(Box::new(stream)), identity, guard, closing)
    }

    fn new(
        stream: Stream,
        identity: Option<Identity>,
        guard: ConnectionGuard,
        closing: oneshot::Receiver<()>,
    ) -> Self {
        Self {
            stream,
            expiry: identity.clone().map(ExpiryTimer::of),
            identity,
            guard,
            closing,
            backoff: None,
            read_ahead: io::Cursor::default(),
        }
    }

    /// Fails once the connection must close. Reads, writes and flushes all check this, because HTTP/2 doesn't read
    /// while it can't write.
    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.closing.is_terminated() || Pin::new(&mut self.closing).poll(cx).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if let Some(ExpiryTimer(expiry)) = &mut self.expiry
            && expiry.as_mut().poll(cx).is_ready()
        {
            self.expiry = Some(ExpiryTimer(Box::pin(std::future::ready(()))));
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Delays the next read if calls were rejected since the last one.
    fn poll_backoff(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.backoff.is_none() {
            let rejections = self.guard.take_rejections();
            if rejections > 0 {
                let backoff = REJECTION_BACKOFF
                    .saturating_mul(rejections)
                    .min(MAX_REJECTION_BACKOFF);
                self.backoff = Some(Box::pin(sleep(backoff)));
            }
        }
        if let Some(backoff) = &mut self.backoff {
            ready!(backoff.as_mut().poll(cx));
            self.backoff = None;
        }
        Poll::Ready(())
    }

    /// Reads HTTP/2's preface; `None` if the connection begins otherwise: then it has been answered.
    pub(super) async fn read_preface(mut self) -> io::Result<Option<Self>> {
        let Some(beginning) = preface::read(&mut self).await? else {
            return Ok(None);
        };
        self.read_ahead = io::Cursor::new(beginning);
        Ok(Some(self))
    }
}

impl ExpiryTimer {
    fn of(identity: Identity) -> Self {
        Self(Box::pin(async move {
            identity.wait_until_invalid().await;
        }))
    }
}

impl std::fmt::Debug for ExpiryTimer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ExpiryTimer")
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
            connection: self.guard.connection(),
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
        if this.read_ahead.position() < this.read_ahead.get_ref().len() as u64 {
            return Pin::new(&mut this.read_ahead).poll_read(cx, buf);
        }
        ready!(this.poll_backoff(cx));
        let read = ready!(match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        });
        for _ in 0..READ_COOP_COST {
            let Poll::Ready(share) = coop::poll_proceed(cx) else {
                break;
            };
            share.made_progress();
        }
        Poll::Ready(read)
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
