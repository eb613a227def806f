//! Connections as callers have them: bare, or under TLS and with a token in each call.

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

/// What the server's certificate is for.
const NAME: &str = "group-service.test";

/// A connection. What has no token costs no more than without this around it.
#[derive(Clone, Debug)]
pub(crate) struct Channel {
    inner: transport::Channel,
    authorization: Option<HeaderValue>,
}

impl Channel {
    /// Connects; `TCP_NODELAY` is on, as it is by default.
    pub(crate) async fn connect(address: &str) -> Self {
        Self {
            inner: open(endpoint(address)).await,
            authorization: None,
        }
    }

    /// Connects without TLS, with this token for each call.
    pub(crate) async fn known(address: &str, token: &str) -> Self {
        Self {
            inner: open(endpoint(address)).await,
            authorization: Some(bearer(token)),
        }
    }

    /// Connects under TLS to a server that is known by this certificate, with this token for each call.
    pub(crate) async fn secured(address: &str, certificate: &Signed, token: &str) -> Self {
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

/// A server's certificate and its key, and the authority that signed it.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    authority: Arc<CertifiedIssuer<'static, KeyPair>>,
}

impl Signed {
    /// Makes one, in files of this directory.
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

    /// Makes another certificate of the same authority, in the same files.
    pub(crate) fn renew(&self) {
        let mut params = CertificateParams::new([NAME.to_owned()]).expect("valid");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let own = KeyPair::generate().expect("a key");
        let signed = params.signed_by(&own, &*self.authority).expect("signed");
        fs::write(&self.key, own.serialize_pem()).expect("written");
        fs::write(&self.certificate, signed.pem()).expect("written");
    }
}
