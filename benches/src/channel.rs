//! Client connections: plain, or with TLS and a token in each call.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    task::{Context, Poll},
};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tonic::{
    body::Body,
    codegen::{
        Service,
        http::{self, HeaderValue, header::AUTHORIZATION},
    },
    transport::{self, Certificate, ClientTlsConfig, Endpoint},
};

/// The name in the server's certificate.
const NAME: &str = "group-service.test";

/// A connection. Without a token, it has no overhead over a plain channel.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    inner: transport::Channel,
    authorization: Option<HeaderValue>,
}

impl Channel {
    /// Connects, with `TCP_NODELAY`, which is the default.
    pub(crate) async fn connect(address: &str) -> Self {
        Self {
            inner: open(endpoint(address)).await,
            authorization: None,
        }
    }

    /// Connects without TLS, with this token for each call.
    pub(crate) async fn connect_with_token(address: &str, token: &str) -> Self {
        Self {
            inner: open(endpoint(address)).await,
            authorization: Some(bearer(token)),
        }
    }

    /// Connects with TLS to a server with this certificate, with this token for each call.
    pub(crate) async fn connect_tls(
        address: &str,
        certificate: &TestCertificate,
        token: &str,
    ) -> Self {
        let tls = ClientTlsConfig::new()
            .domain_name(NAME)
            .ca_certificate(Certificate::from_pem(certificate.authority.pem()));
        let endpoint = endpoint(&address.replace("http://", "https://")).tls_config(tls);
        Self {
            inner: open(endpoint.expect("an authority")).await,
            authorization: Some(bearer(token)),
        }
    }
}

fn bearer(token: &str) -> HeaderValue {
    let value = HeaderValue::from_str(&format!("Bearer {token}"));
    let mut value = value.expect("visible characters");
    value.set_sensitive(true);
    value
}

fn endpoint(address: &str) -> Endpoint {
    Endpoint::from_shared(address.to_owned()).expect("a URI")
}

async fn open(endpoint: Endpoint) -> transport::Channel {
    endpoint.connect().await.expect("the server accepts")
}

impl Service<http::Request<Body>> for Channel {
    type Response = http::Response<Body>;
    type Error = transport::Error;
    type Future = <transport::Channel as Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(authorization) = &self.authorization {
            let headers = request.headers_mut();
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        self.inner.call(request)
    }
}

/// A server certificate with its key, and the certificate authority that signed it.
#[derive(Clone)]
pub(crate) struct TestCertificate {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    authority: Arc<CertifiedIssuer<'static, KeyPair>>,
}

impl TestCertificate {
    /// Creates a certificate, in files in this directory.
    pub(crate) fn make(dir: &Path) -> Self {
        let key = || KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("valid");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, key()).expect("signed");
        let signed = Self {
            certificate: dir.join("server.pem"),
            key: dir.join("key.pem"),
            authority: authority.into(),
        };
        signed.renew();
        signed
    }

    /// Replaces the certificate by another one of the same authority, in the same files.
    pub(crate) fn renew(&self) {
        let mut params = CertificateParams::new([NAME.to_owned()]).expect("valid");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let own = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&own, &*self.authority).expect("signed");
        fs::write(&self.key, own.serialize_pem()).expect("written");
        fs::write(&self.certificate, signed.pem()).expect("written");
    }
}
