//! A connection, as bytes.

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

use super::{Peer, connections::Counted, preface};
use crate::auth::Identity;

/// How much of its turn on a thread (128, as tokio counts) a connection uses up with each read, which brings many
/// calls: it has others wait for a few of its reads only.
const READ_COST: u32 = 32;
/// For how long a connection isn't read after a call was refused on it.
const REFUSAL_PAUSE: Duration = Duration::from_millis(10);
const MAX_PAUSE: Duration = Duration::from_secs(1);

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
    /// Ready when it may be read again.
    pause: Option<Pin<Box<Sleep>>>,
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
            pause: None,
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

    /// Waits for a while if calls were refused since it was last read.
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.pause.is_none() {
            let refusals = self.counted.take_refusals();
            if refusals > 0 {
                let pause = REFUSAL_PAUSE.saturating_mul(refusals).min(MAX_PAUSE);
                self.pause = Some(Box::pin(sleep(pause)));
            }
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(cx));
            self.pause = None;
        }
        Poll::Ready(())
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
        ready!(this.poll_pause(cx));
        let read = ready!(match &mut this.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        });
        for _ in 0..READ_COST {
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
