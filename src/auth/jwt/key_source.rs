use std::{
    fmt, io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use http::{
    Request, StatusCode, Uri,
    header::{ACCEPT, HOST},
    uri::Scheme,
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs, pki_types::ServerName},
};

/// Timeout of reading a URL.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a response body, in bytes.
const MAX_BYTES: usize = 1024 * 1024;

/// The source of JWT keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A file.
    File(PathBuf),
    /// A URL.
    Url(Uri),
}

impl KeySource {
    /// Parses a setting: a URL, or else a file path.
    ///
    /// # Errors
    /// What is wrong with it, for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        if !text.contains("://") {
            return Ok(Self::File(text.into()));
        }
        let wrong = "it must be a file, or a URL: https://…, or http://… on loopback";
        let url: Uri = text.parse().map_err(|_| wrong)?;
        let authority = url.authority().filter(|one| !one.as_str().contains('@'));
        let host = authority.ok_or(wrong)?.host();
        let local = host == "localhost"
            || without_brackets(host)
                .parse::<IpAddr>()
                .is_ok_and(|address| address.is_loopback());
        // Plain HTTP is allowed on loopback only: an attacker who can modify the keys in transit can impersonate any
        // caller.
        match url.scheme_str() {
            Some("https") => Ok(Self::Url(url)),
            Some("http") if local => Ok(Self::Url(url)),
            _ => Err(wrong.to_owned()),
        }
    }
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            // The query is omitted, as it may contain a secret.
            Self::Url(url) => {
                let host = url.host().unwrap_or_default();
                write!(
                    f,
                    "{}://{host}{}",
                    url.scheme_str().unwrap_or_default(),
                    url.path()
                )
            }
        }
    }
}

/// An IPv6 address without its brackets.
fn without_brackets(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| error.to_string())
}

/// Checks that a URL can be read: HTTPS needs trusted certificates on this system.
pub(super) fn check(url: &Uri) -> Result<(), String> {
    if url.scheme() == Some(&Scheme::HTTPS) {
        tls_connector()?;
    }
    Ok(())
}

/// Reads a URL. Redirects aren't followed.
pub(super) async fn fetch(url: &Uri) -> Result<Vec<u8>, String> {
    match timeout(TIMEOUT, get(url)).await {
        Ok(result) => result,
        Err(_) => Err(format!("no answer within {} s", TIMEOUT.as_secs())),
    }
}

async fn get(url: &Uri) -> Result<Vec<u8>, String> {
    let secure = url.scheme() == Some(&Scheme::HTTPS);
    let host = without_brackets(url.host().unwrap_or_default());
    let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let failed = |error: io::Error| error.to_string();
    let stream = TcpStream::connect((host, port)).await.map_err(failed)?;
    if !secure {
        return send_get(stream, url).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let stream = tls_connector()?
        .connect(name, stream)
        .await
        .map_err(failed)?;
    send_get(stream, url).await
}

/// A connector that requires a server certificate of an authority that the system trusts. The authorities are loaded
/// each time, because they may change.
fn tls_connector() -> Result<TlsConnector, String> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() {
        return Err("the system has no certificates of authorities to trust".to_owned());
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config).into())
}

/// Sends a GET request over HTTP/1.1 and returns the body.
async fn send_get<S>(stream: S, url: &Uri) -> Result<Vec<u8>, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: hyper::Error| error.to_string();
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(failed)?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let request = Request::get(path)
        .header(HOST, authority)
        .header(ACCEPT, "application/jwk-set+json, application/json")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        if response.status() != StatusCode::OK {
            return Err(format!("the answer is {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_BYTES)
            .collect()
            .await;
        let body = body.map_err(|error| error.to_string())?;
        Ok(body.to_bytes().into())
    };
    // The connection is polled here rather than in a task of its own, so that it ends with the response or the timeout.
    let mut connection = std::pin::pin!(connection);
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        ended = &mut connection => {
            ended.map_err(failed)?;
            answer.await
        }
    }
}
