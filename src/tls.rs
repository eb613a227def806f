//! TLS certificates and keys, which are reloaded while the server runs.

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

/// How often the files are checked for changes.
const INTERVAL: Duration = Duration::from_secs(1);

/// Paths of the certificate and key files, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The server's certificate, followed by the intermediate ones.
    pub certificate: PathBuf,
    /// The private key of the server's certificate.
    pub key: PathBuf,
    /// The authorities that sign client certificates, if clients may have one.
    pub client_ca: Option<PathBuf>,
}

/// Contents of the files.
#[derive(Clone, PartialEq, Eq)]
struct FileContents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// The TLS configuration of new connections.
#[derive(Debug)]
pub struct Tls {
    files: CertificateFiles,
    /// The current configuration, with the file contents that it was built from.
    loaded: RwLock<LoadedCertificates>,
    /// The verifier of client certificates; sent after `loaded` has changed.
    verifier: watch::Sender<Option<Verifier>>,
}

type Verifier = Arc<dyn ClientCertVerifier>;

/// The authorities of client certificates, from when a connection began.
#[derive(Clone, Debug)]
pub(crate) struct ClientAuthorities(watch::Receiver<Option<Verifier>>);

impl ClientAuthorities {
    /// Waits until the authorities have changed and no longer verify this chain, which they verified when the
    /// connection began.
    pub(crate) async fn wait_until_revoked(mut self, chain: &[CertificateDer<'_>]) {
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
        // The server is shutting down, and closes its connections itself.
        std::future::pending().await
    }
}

struct LoadedCertificates {
    contents: FileContents,
    config: Arc<ServerConfig>,
    expires: Option<u64>,
}

impl std::fmt::Debug for LoadedCertificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LoadedCertificates(hidden)")
    }
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// What is wrong with them, for the operator.
    pub fn load(files: CertificateFiles) -> Result<Self, String> {
        let (loaded, verifier) = LoadedCertificates::of(read(&files)?)?;
        Ok(Self {
            files,
            verifier: watch::Sender::new(verifier),
            loaded: RwLock::new(loaded),
        })
    }

    /// The acceptor of the next connection, and the authorities that its client certificate depends on.
    pub(crate) fn acceptor(&self) -> (TlsAcceptor, ClientAuthorities) {
        // Subscribed before `loaded` is read, so that no change in between is missed.
        let authorities = ClientAuthorities(self.verifier.subscribe());
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        (loaded.config.clone().into(), authorities)
    }

    /// When the server's certificate expires, in Unix seconds; `None` if it can't be parsed.
    #[must_use]
    pub fn expires(&self) -> Option<u64> {
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        loaded.expires
    }

    /// Reloads the files when they have changed, checking periodically and at SIGHUP. Open connections stay, except
    /// those of callers whose authority was removed.
    pub(crate) async fn watch_files(&self) {
        let Ok(mut hangup) = signal(SignalKind::hangup()) else {
            return;
        };
        // The last error, and the number of consecutive checks that failed with it.
        let mut last_error: Option<(String, u64)> = None;
        loop {
            tokio::select! {
                _ = hangup.recv() => {}
                () = tokio::time::sleep(INTERVAL) => {}
            }
            last_error = match self.reload() {
                Ok(changed) => {
                    if changed {
                        tracing::info!("TLS certificates reloaded: used for new connections");
                    }
                    None
                }
                Err(reason) => {
                    let failures = match last_error {
                        Some((before, failures)) if before == reason => failures + 1,
                        _ => 1,
                    };
                    // The files may not match while they are being replaced, so an error is logged once, when it occurs
                    // the second time in a row.
                    if failures == 2 {
                        tracing::warn!(
                            "cannot reload TLS certificates, keeping the previous ones: {reason}"
                        );
                    }
                    Some((reason, failures))
                }
            };
        }
    }

    fn reload(&self) -> Result<bool, String> {
        let contents = read(&self.files)?;
        let loaded = self.loaded.read().unwrap_or_else(PoisonError::into_inner);
        let changed = loaded.contents != contents;
        let other_authorities = loaded.contents.client_ca != contents.client_ca;
        drop(loaded);
        if changed {
            let (new, verifier) = LoadedCertificates::of(contents)?;
            *self.loaded.write().unwrap_or_else(PoisonError::into_inner) = new;
            if other_authorities {
                self.verifier.send_replace(verifier);
            }
        }
        Ok(changed)
    }
}

impl LoadedCertificates {
    fn of(contents: FileContents) -> Result<(Self, Option<Verifier>), String> {
        let (config, verifier) = config(&contents)?;
        let expires = expires(&contents.certificate);
        let loaded = Self {
            contents,
            config: Arc::new(config),
            expires,
        };
        Ok((loaded, verifier))
    }
}

fn read(files: &CertificateFiles) -> Result<FileContents, String> {
    let read = |setting: &str, path: &Path| {
        let contents = std::fs::read(path);
        contents.map_err(|error| format!("{setting} {}: {error}", path.display()))
    };
    let client_ca = files.client_ca.as_deref();
    let client_ca = client_ca.map(|path| read("--tls-client-ca", path));
    Ok(FileContents {
        certificate: read("--tls-certificate", &files.certificate)?,
        key: read("--tls-key", &files.key)?,
        client_ca: client_ca.transpose()?,
    })
}

fn config(contents: &FileContents) -> Result<(ServerConfig, Option<Verifier>), String> {
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
            // A client without a certificate may still have a token.
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
        // A resumed session keeps its client certificate without verifying it again, although it may have expired or
        // its authority may have been removed.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    // A client that speaks only HTTP/1.1 gets an HTTP error that says so, instead of a failed handshake.
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((config, verifier))
}

/// When the first certificate, the server's own, expires, in Unix seconds.
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
