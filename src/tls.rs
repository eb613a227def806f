//! TLS: certificates and keys, which may change while it serves.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        RootCertStore, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
        server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    },
};
use x509_cert::{Certificate, der::Decode};

/// How often it is looked whether the files have changed.
const INTERVAL: Duration = Duration::from_secs(1);

/// Where certificates and keys are, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The server's certificate, and those between it and its authority.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The authorities of callers' certificates, if callers may have one.
    pub client_ca: Option<PathBuf>,
}

/// What is in the files.
#[derive(Clone, PartialEq, Eq)]
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// What connections are taken with.
#[derive(Debug)]
pub struct Tls {
    files: Files,
    /// With the contents of the files that it was made of.
    present: RwLock<Present>,
    /// Sent after `present` has changed.
    verifier: watch::Sender<Option<Verifier>>,
}

type Verifier = Arc<dyn ClientCertVerifier>;

/// The authorities of callers' certificates since a connection began.
#[derive(Clone, Debug)]
pub(crate) struct Authorities(watch::Receiver<Option<Verifier>>);

impl Authorities {
    /// Waits until none of them has signed a chain of certificates that was verified by those that there were.
    pub(crate) async fn gone(mut self, chain: &[CertificateDer<'_>]) {
        let Some((own, others)) = chain.split_first() else {
            return;
        };
        while self.0.changed().await.is_ok() {
            let verifier = self.0.borrow_and_update().clone();
            let verified = verifier.is_some_and(|verifier| {
                let verified = verifier.verify_client_cert(own, others, UnixTime::now());
                verified.is_ok()
            });
            if !verified {
                return;
            }
        }
        // The server is ending, and its connections with it.
        std::future::pending().await
    }
}

struct Present {
    contents: Contents,
    config: Arc<ServerConfig>,
    expires: Option<u64>,
}

impl std::fmt::Debug for Present {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Present(hidden)")
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with them, for the operator.
    pub fn load(files: Files) -> Result<Self, String> {
        let (present, verifier) = Present::of(read(&files)?)?;
        Ok(Self {
            files,
            verifier: watch::Sender::new(verifier),
            present: RwLock::new(present),
        })
    }

    /// What the next connection is taken with, and what tells when its caller's authority is gone.
    pub(crate) fn acceptor(&self) -> (TlsAcceptor, Authorities) {
        // First: a change in between is told.
        let authorities = Authorities(self.verifier.subscribe());
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        (present.config.clone().into(), authorities)
    }

    /// When the certificate expires, in Unix time; nothing if it doesn't say that as certificates do.
    #[must_use]
    pub fn expires(&self) -> Option<u64> {
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        present.expires
    }

    /// Goes on looking whether the files have changed, and at once at SIGHUP. Connections that are there stay, but for
    /// those of callers whose authority is gone.
    pub(crate) async fn follow(&self) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            return;
        };
        // What is wrong, and at how many looks in a row it was.
        let mut complaint: Option<(String, u64)> = None;
        loop {
            tokio::select! {
                _ = hangup.recv() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
            complaint = match self.reload() {
                Ok(changed) => {
                    if changed {
                        tracing::info!("the certificates have changed: new connections have them");
                    }
                    None
                }
                Err(reason) => {
                    let looks = match complaint {
                        Some((before, looks)) if before == reason => looks + 1,
                        _ => 1,
                    };
                    // While they are being written they may not go together: said when it stays so, once.
                    if looks == 2 {
                        tracing::warn!(
                            "the certificates can't be read again, the old ones stay: {reason}"
                        );
                    }
                    Some((reason, looks))
                }
            };
        }
    }

    fn reload(&self) -> Result<bool, String> {
        let contents = read(&self.files)?;
        let present = self.present.read().unwrap_or_else(PoisonError::into_inner);
        let changed = present.contents != contents;
        let other_authorities = present.contents.client_ca != contents.client_ca;
        drop(present);
        if changed {
            let (new, verifier) = Present::of(contents)?;
            *self.present.write().unwrap_or_else(PoisonError::into_inner) = new;
            if other_authorities {
                self.verifier.send_replace(verifier);
            }
        }
        Ok(changed)
    }
}

impl Present {
    fn of(contents: Contents) -> Result<(Self, Option<Verifier>), String> {
        let (config, verifier) = config(&contents)?;
        let expires = expires(&contents.certificate);
        let present = Self {
            contents,
            config: Arc::new(config),
            expires,
        };
        Ok((present, verifier))
    }
}

fn read(files: &Files) -> Result<Contents, String> {
    let read = |setting: &str, path: &Path| {
        let contents = std::fs::read(path);
        contents.map_err(|error| format!("{setting} {}: {error}", path.display()))
    };
    let client_ca = files.client_ca.as_deref();
    let client_ca = client_ca.map(|path| read("--tls-client-ca", path));
    Ok(Contents {
        certificate: read("--tls-certificate", &files.certificate)?,
        key: read("--tls-key", &files.key)?,
        client_ca: client_ca.transpose()?,
    })
}

fn config(contents: &Contents) -> Result<(ServerConfig, Option<Verifier>), String> {
    let chain = certificates("--tls-certificate", &contents.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(&contents.key);
    let key = key.map_err(|_| "--tls-key: there is no private key in it".to_owned())?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?;
    let verifier = match &contents.client_ca {
        None => None,
        Some(authorities) => {
            let wrong = |error: &dyn std::fmt::Display| format!("--tls-client-ca: {error}");
            let mut roots = RootCertStore::empty();
            for authority in certificates("--tls-client-ca", authorities)? {
                roots.add(authority).map_err(|error| wrong(&error))?;
            }
            // Whoever has no certificate may still have a token.
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .allow_unauthenticated()
                .build();
            Some(verifier.map_err(|error| wrong(&error))? as Verifier)
        }
    };
    let builder = match &verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier.clone()),
    };
    let config = builder.with_single_cert(chain, key);
    let mut config = config.map_err(|error| format!("--tls-certificate and --tls-key: {error}"))?;
    if contents.client_ca.is_some() {
        // A session that is resumed brings its caller's certificate along, which isn't verified again: it may have
        // expired, or its authority may be gone.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    // A client that speaks HTTP/1.1 only is told so in HTTP, rather than by a handshake that fails.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((config, verifier))
}

/// When the first of the certificates expires, which is the server's own, in Unix time.
fn expires(pem: &[u8]) -> Option<u64> {
    let own = CertificateDer::from_pem_slice(pem).ok()?;
    let own = Certificate::from_der(&own).ok()?;
    let expires = own.tbs_certificate.validity.not_after;
    Some(expires.to_unix_duration().as_secs())
}

fn certificates(setting: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(format!("{setting}: there is no certificate in it")),
    }
}
