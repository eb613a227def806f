//! The connection preface: HTTP/2's, or the beginning of a protocol that isn't served.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink};

/// HTTP/2's connection preface (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The preface and the header of the first frame (section 4.1).
const PREFACE_LEN: usize = PREFACE.len() + 9;
/// The response to any other protocol, which HTTP/1.1 clients understand.
const REFUSAL: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    content-length: 71\r\n\
    connection: close\r\n\r\n\
    505 HTTP Version Not Supported: this port serves gRPC, over HTTP/2 only";
/// How many bytes of a rejected request are read.
const MAX_DISCARDED: u64 = 64 << 10;

/// Reads the preface and returns its bytes; `None` if it isn't HTTP/2's: then the connection has been answered and must
/// be closed.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<Option<Vec<u8>>> {
    let mut beginning = vec![0; PREFACE_LEN];
    let mut length = 0;
    while length < PREFACE_LEN {
        match stream.read(&mut beginning[length..]).await? {
            0 => return Ok(None),
            read => length += read,
        }
        let known = length.min(PREFACE.len());
        if beginning[..known] != PREFACE[..known] {
            stream.write_all(REFUSAL).await?;
            stream.shutdown().await?;
            // Closing a connection with unread bytes resets it, and the response may be lost with it.
            copy(&mut stream.take(MAX_DISCARDED), &mut sink()).await?;
            return Ok(None);
        }
    }
    Ok(Some(beginning))
}
