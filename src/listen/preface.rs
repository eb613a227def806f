//! How a connection begins: with HTTP/2, or with a protocol that isn't served.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy, sink};

/// How HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Behind it is the head of the first frame (section 4.1).
const BEGINNING: usize = PREFACE.len() + 9;
/// What any other protocol is answered: all that an HTTP/1.1 client needs.
const REFUSAL: &[u8] = b"HTTP/1.1 505 HTTP Version Not Supported\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    content-length: 71\r\n\
    connection: close\r\n\r\n\
    505 HTTP Version Not Supported: this port serves gRPC, over HTTP/2 only";
/// How much of a refused request is read.
const MAX_UNREAD: u64 = 64 << 10;

/// Reads how a connection begins; nothing if that isn't HTTP/2: then it has been answered and is to be closed.
pub(super) async fn read(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
) -> io::Result<Option<Vec<u8>>> {
    let mut beginning = vec![0; BEGINNING];
    let mut length = 0;
    while length < BEGINNING {
        match stream.read(&mut beginning[length..]).await? {
            0 => return Ok(None),
            read => length += read,
        }
        let known = length.min(PREFACE.len());
        if beginning[..known] != PREFACE[..known] {
            stream.write_all(REFUSAL).await?;
            stream.shutdown().await?;
            // A connection that is closed with unread bytes is reset, and the answer may be lost with it.
            copy(&mut stream.take(MAX_UNREAD), &mut sink()).await?;
            return Ok(None);
        }
    }
    Ok(Some(beginning))
}
