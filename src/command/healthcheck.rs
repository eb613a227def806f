use std::{
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use group_service::config::Config;
use prost::{Message, bytes::Bytes};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
        client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
        pki_types::{CertificateDer, ServerName, UnixTime},
    },
};
use tonic_health::pb::{HealthCheckResponse, health_check_response::ServingStatus};

use crate::EXIT_USAGE;

/// Timeout of the whole check.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Maximum size of a response.
const MAX_RESPONSE_BYTES: usize = 16 * 1024;
/// The gRPC frame of an empty `HealthCheckRequest`, uncompressed, which asks for the server as a whole.
const HEALTH_REQUEST: Bytes = Bytes::from_static(&[0; 5]);

/// Checks whether the server with these settings is serving.
pub(super) async fn healthcheck(config: &Config) -> Result<(), (u8, String)> {
    let metrics = config.observability.metrics_listen;
    let (setting, address) = match metrics {
        Some(address) => ("--metrics-listen", address),
        None => ("--listen", config.network.listen),
    };
    if address.port() == 0 {
        let reason = format!("{setting} {address}: only the server knows which port it has taken");
        return Err((EXIT_USAGE, reason));
    }
    let address = dialable(address);
    let tls = config.network.tls_certificate.is_some();
    let asked = async {
        let stream = TcpStream::connect(address).await;
        let stream = stream.map_err(|error| error.to_string())?;
        match metrics {
            Some(_) => ask_http(stream).await,
            None if tls => ask_grpc(connect_tls(stream, address).await?).await,
            None => ask_grpc(stream).await,
        }
    };
    let late = || format!("it doesn't answer within {} s", TIMEOUT.as_secs());
    let answer = timeout(TIMEOUT, asked).await;
    let answer = answer.unwrap_or_else(|_| Err(late()));
    answer.map_err(|reason| {
        (
            1,
            format!("the server at {address} doesn't serve: {reason}"),
        )
    })?;
    let _ = writeln!(std::io::stdout(), "the server at {address} serves");
    Ok(())
}

/// A server that listens on all addresses is dialed on loopback.
fn dialable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

/// Requests `/readyz` over HTTP/1.1.
async fn ask_http(mut stream: TcpStream) -> Result<(), String> {
    let request = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = Vec::new();
    let exchanged = async {
        stream.write_all(request.as_bytes()).await?;
        let most = MAX_RESPONSE_BYTES as u64;
        stream.take(most).read_to_end(&mut answer).await
    };
    let exchanged = exchanged.await;
    exchanged.map_err(|error| format!("it hangs up ({error})"))?;
    let answer = String::from_utf8_lossy(&answer);
    match answer.split(' ').nth(1) {
        Some("200") => Ok(()),
        Some("503") => Err("it is not ready".to_owned()),
        _ => Err("/readyz is unknown to it".to_owned()),
    }
}

/// Calls `grpc.health.v1.Health/Check` directly over HTTP/2: a single call needs no gRPC client.
async fn ask_grpc(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<(), String> {
    let exchanged = async {
        let (client, connection) = h2::client::handshake(stream).await?;
        tokio::spawn(connection);
        let request = http::Request::post("http://localhost/grpc.health.v1.Health/Check")
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap_or_default();
        let (response, mut body) = client.ready().await?.send_request(request, false)?;
        body.send_data(HEALTH_REQUEST, true)?;
        let mut body = response.await?.into_body();
        let mut answer = Vec::new();
        while let Some(part) = body.data().await {
            let part = part?;
            answer.extend_from_slice(&part);
            if answer.len() > MAX_RESPONSE_BYTES {
                break;
            }
            body.flow_control().release_capacity(part.len())?;
        }
        Ok::<_, h2::Error>(answer)
    };
    let answer = exchanged.await;
    let answer = answer.map_err(|error| format!("it hangs up ({error})"))?;
    // An error response has no message.
    let message = answer.get(5..).and_then(|message| {
        let message = HealthCheckResponse::decode(message);
        message.ok()
    });
    match message.map(|message| message.status()) {
        Some(ServingStatus::Serving) => Ok(()),
        Some(ServingStatus::NotServing) => Err("NOT_SERVING".to_owned()),
        Some(_) | None => Err("its health is unknown to it".to_owned()),
    }
}

async fn connect_tls(
    stream: TcpStream,
    address: SocketAddr,
) -> Result<impl AsyncRead + AsyncWrite + Unpin + Send + 'static, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("TLS: {error}");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&error))?;
    let mut config = config
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::from(address.ip());
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
    connected.await.map_err(|error| wrong(&error))
}

/// Accepts any server certificate. The check dials the server's own listen address, sends no secrets, and gets one bit.
/// An expired certificate, or a new one that the server couldn't load, is no reason to restart a server that serves.
#[derive(Debug)]
struct AcceptAnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let known = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
