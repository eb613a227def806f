//! Client certificates (RFC 5280): which caller they name, and when they expire.

use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use super::sleep_until;
use crate::{
    domain::{Caller, Timestamp},
    tls::ClientAuthorities,
};

/// A certificate chain that was verified when its connection began.
#[derive(Debug)]
pub(super) struct VerifiedCertificate {
    chain: Vec<CertificateDer<'static>>,
    expires: Timestamp,
    authorities: ClientAuthorities,
}

impl VerifiedCertificate {
    pub(super) fn new(
        chain: &[CertificateDer<'static>],
        expires: Timestamp,
        authorities: ClientAuthorities,
    ) -> Self {
        Self {
            chain: chain.to_vec(),
            expires,
            authorities,
        }
    }

    /// Whether the chain hasn't expired. A removed authority isn't checked here: it closes the connection.
    pub(super) fn is_valid(&self) -> bool {
        self.expires > Timestamp::now()
    }

    /// Waits until the chain has expired, or its authority is removed.
    pub(super) async fn wait_until_invalid(&self) {
        tokio::select! {
            () = sleep_until(self.expires) => {}
            () = self.authorities.clone().wait_until_revoked(&self.chain) => {}
        }
    }
}

/// The caller that a certificate names, and the earliest expiry in its chain; `None` unless the certificate names
/// exactly one caller, in the form in which the name is recorded.
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
    Timestamp::from_micros(0).plus(validity.not_after.to_unix_duration())
}

/// The certificate's only URI name, or its only DNS name if it has no URI.
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

/// Whether a URI has a scheme, so that it can't be taken for a DNS name, and is in normal form (RFC 3986, section
/// 6.2.2).
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

/// Whether a path has a `.` or `..` segment.
pub(super) fn has_dot_segments(path: &str) -> bool {
    path.split('/').any(|part| part == "." || part == "..")
}
