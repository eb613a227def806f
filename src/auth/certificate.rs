//! Callers' certificates (RFC 5280): whom they name, and until when.

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use super::passed;
use crate::{
    domain::{Caller, Timestamp},
    tls::Authorities,
};

/// What says who is at the other end of a connection: a chain of certificates that was verified when it began.
#[derive(Debug)]
pub(super) struct Certified {
    chain: Vec<CertificateDer<'static>>,
    expires: Timestamp,
    authorities: Authorities,
}

impl Certified {
    pub(super) fn new(
        chain: &[CertificateDer<'static>],
        expires: Timestamp,
        authorities: Authorities,
    ) -> Self {
        Self {
            chain: chain.to_vec(),
            expires,
            authorities,
        }
    }

    /// Whether it is in time. Those whose authority is gone have their connection closed.
    pub(super) fn is_valid(&self) -> bool {
        self.expires > Timestamp::now()
    }

    /// Waits until it has expired, or its authority is gone.
    pub(super) async fn ended(&self) {
        tokio::select! {
            () = passed(self.expires) => {}
            () = self.authorities.clone().gone(&self.chain) => {}
        }
    }
}

/// Whom a certificate names, and when the first one of its chain expires; nothing if it doesn't name exactly one caller,
/// in the form in which the name is recorded.
pub(super) fn subject(chain: &[CertificateDer<'_>]) -> Option<(Caller, Timestamp)> {
    let chain: Option<Vec<_>> = chain
        .iter()
        .map(|der| Certificate::from_der(der).ok())
        .collect();
    let chain = chain?;
    let expires = chain.iter().map(expires).min()?;
    let name = name(chain.first()?)?;
    let caller = Caller::parse(&name).ok()?;
    (caller.as_str() == name).then_some((caller, expires))
}

fn expires(certificate: &Certificate) -> Timestamp {
    let validity = &certificate.tbs_certificate.validity;
    Timestamp::from_micros(0).after(validity.not_after.to_unix_duration())
}

/// The only URI of a certificate, or else, if it has none, its only DNS name.
fn name(certificate: &Certificate) -> Option<String> {
    let (_, SubjectAltName(names)) = certificate.tbs_certificate.get().ok()??;
    let (mut uris, mut dns) = (Vec::new(), Vec::new());
    for name in &names {
        match name {
            GeneralName::UniformResourceIdentifier(uri) => uris.push(uri.as_str()),
            GeneralName::DnsName(name) => dns.push(name.as_str()),
            _ => {}
        }
    }
    match (&uris[..], &dns[..]) {
        ([uri], _) => is_canonical_uri(uri).then(|| (*uri).to_owned()),
        ([], [name]) => is_canonical_dns(name).then(|| (*name).to_owned()),
        _ => None,
    }
}

/// Whether a URI has a scheme, so that it is no DNS name, and can't be written in another way (RFC 3986, section 6.2.2).
fn is_canonical_uri(uri: &str) -> bool {
    let Some((scheme, rest)) = uri.split_once(':') else {
        return false;
    };
    let authority = rest.strip_prefix("//").unwrap_or_default();
    let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
    let is_scheme = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.')
    };
    scheme.starts_with(|c: char| c.is_ascii_lowercase())
        && scheme.bytes().all(is_scheme)
        && !authority.bytes().any(|byte| byte.is_ascii_uppercase())
        && rest
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'\\'))
        && !has_dot_segments(rest)
}

fn is_canonical_dns(name: &str) -> bool {
    name.split('.').all(|label| {
        let is_label =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        !label.is_empty() && label.bytes().all(is_label)
    })
}

/// Whether a part of a path stands for the one before it, or for nothing.
pub(super) fn has_dot_segments(path: &str) -> bool {
    path.split('/').any(|part| part == "." || part == "..")
}
