//! TLS, and authentication by client certificates.

use std::{fs, path::Path, sync::Arc, time::Duration};

use group_service::pb::{
    self, change_service_client::ChangeServiceClient, role_service_client::RoleServiceClient,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType, date_time_ymd,
};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs},
};
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

use crate::{
    harness::{Process, binary, expect_error, unknown_id},
    protocol::{assert_version_not_supported, http_1},
    settings::{output, refused},
};

pub(crate) type Authority = CertifiedIssuer<'static, KeyPair>;

pub(crate) fn authority() -> Authority {
    let mut params = CertificateParams::new([]).expect("valid");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("signed")
}

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Signed {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

pub(crate) fn sign(authority: &Authority, adjust: impl FnOnce(&mut CertificateParams)) -> Signed {
    let mut params = CertificateParams::new([]).expect("valid");
    adjust(&mut params);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("signed");
    Signed {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

/// A client certificate with this URI.
pub(crate) fn caller(
    authority: &Authority,
    uri: &str,
    adjust: impl FnOnce(&mut CertificateParams),
) -> Signed {
    sign(authority, |params| {
        let uri = uri.try_into().expect("ASCII");
        params.subject_alt_names.push(SanType::URI(uri));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        adjust(params);
    })
}

pub(crate) fn server(authority: &Authority) -> Signed {
    named(authority, "group-service.test")
}

/// A server certificate for this name.
pub(crate) fn named(authority: &Authority, name: &str) -> Signed {
    sign(authority, |params| {
        let name = name.try_into().expect("ASCII");
        params.subject_alt_names.push(SanType::DnsName(name));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    })
}

/// Writes the certificate, key and client CA files of a server.
pub(crate) fn put(dir: &Path, server: &Signed, callers: &Authority) {
    // The key first: while key and certificate don't match, the server keeps the old ones.
    fs::write(dir.join("key.pem"), &server.key).expect("written");
    fs::write(dir.join("server.pem"), &server.certificate).expect("written");
    fs::write(dir.join("callers.pem"), callers.pem()).expect("written");
}

pub(crate) async fn start(dir: &Path) -> Process {
    let mut command = binary();
    let file = |name: &str| dir.join(name).display().to_string();
    command
        .args(["--listen", "127.0.0.1:0", "--authentication", "required"])
        .args(["--database-url", &format!("sqlite:{}", file("tls.db"))])
        .args(["--tls-certificate", &file("server.pem")])
        .args(["--tls-key", &file("key.pem")])
        .args(["--tls-client-ca", &file("callers.pem")])
        .args(["--grant", "spiffe://shop/till=read,write,audit"])
        .args(["--grant", "spiffe://shop/desk/*=read"])
        .args(["--grant", "till.shop=write"]);
    Process::spawn(command).await
}

/// Connects, with a client certificate if given.
pub(crate) async fn connect(
    server: &Process,
    trusted: &Authority,
    with: Option<&Signed>,
) -> Result<Channel, tonic::transport::Error> {
    let mut tls = ClientTlsConfig::new()
        .domain_name("group-service.test")
        .ca_certificate(Certificate::from_pem(trusted.pem()));
    if let Some(Signed { certificate, key }) = with {
        tls = tls.identity(Identity::from_pem(certificate, key));
    }
    let endpoint = Channel::from_shared(format!("https://{}", server.address)).expect("a URI");
    endpoint.tls_config(tls)?.connect().await
}

async fn create(
    channel: &Channel,
    name: &str,
) -> Result<tonic::Response<pb::CreateRoleResponse>, tonic::Status> {
    let request = pb::CreateRoleRequest {
        name: name.to_owned(),
        ..Default::default()
    };
    RoleServiceClient::new(channel.clone())
        .create_role(request)
        .await
}

#[tokio::test]
async fn client_certificate_identifies_caller() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, theirs, foreign) = (authority(), authority(), authority());
    put(dir.path(), &server(&ours), &theirs);
    let server = start(dir.path()).await;

    let till = caller(&theirs, "spiffe://shop/till", |_| {});
    let channel = connect(&server, &ours, Some(&till)).await.expect("known");
    create(&channel, "A").await.expect("created");
    let mut changes = ChangeServiceClient::new(channel);
    let listed = changes
        .list_changes(pb::ListChangesRequest::default())
        .await;
    let listed = listed.expect("listed").into_inner().changes;
    assert_eq!(listed[0].actor, "spiffe://shop/till");

    // Authenticated callers without the permission.
    for (uri, permission) in [
        ("spiffe://shop/desk/7", "write"),
        ("spiffe://shop/till2", "write"),
    ] {
        let desk = caller(&theirs, uri, |_| {});
        let channel = connect(&server, &ours, Some(&desk)).await.expect("known");
        let refused = expect_error(create(&channel, "B").await);
        assert_eq!(refused.code, Code::PermissionDenied, "{uri}");
        assert_eq!(refused.metadata["permission"], permission);
    }

    // Unauthenticated callers: without a certificate, or with one without a name.
    let nameless = sign(&theirs, |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    for with in [None, Some(&nameless)] {
        let channel = connect(&server, &ours, with).await.expect("TLS");
        let refused = expect_error(create(&channel, "B").await);
        assert_eq!(refused.code, Code::Unauthenticated);
    }

    // Invalid certificates: the connection fails.
    let expired = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    };
    let of_a_server = |params: &mut CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    for (what, bad) in [
        ("foreign", caller(&foreign, "spiffe://shop/till", |_| {})),
        ("expired", caller(&theirs, "spiffe://shop/till", expired)),
        (
            "wrong usage",
            caller(&theirs, "spiffe://shop/till", of_a_server),
        ),
    ] {
        // In TLS 1.3 the client learns of the rejection only after its handshake: then its first call fails with a
        // connection error.
        if let Ok(channel) = connect(&server, &ours, Some(&bad)).await {
            create(&channel, "B").await.expect_err(what);
        }
    }
    let listed = changes
        .list_changes(pb::ListChangesRequest::default())
        .await;
    assert_eq!(listed.expect("listed").into_inner().changes.len(), 1);
    // A client doesn't connect to a server that it doesn't trust.
    connect(&server, &foreign, Some(&till))
        .await
        .expect_err("not trusted");
    server.stop().await;
}

const TIMEOUT: Duration = Duration::from_secs(30);

/// Opens a watch stream without new changes.
async fn follow(channel: &Channel) -> tonic::Streaming<pb::WatchChangesResponse> {
    let mut changes = ChangeServiceClient::new(channel.clone());
    let filter = pb::ChangeFilter {
        user_id: unknown_id(),
        ..Default::default()
    };
    let request = pb::WatchChangesRequest {
        filter: Some(filter),
        ..Default::default()
    };
    let followed = changes.watch_changes(request).await;
    followed.expect("followed").into_inner()
}

#[tokio::test]
async fn certificates_rotate_without_restart_or_failed_calls() {
    let dir = tempfile::tempdir().expect("a directory");
    let (old, new) = (authority(), authority());
    put(dir.path(), &server(&old), &old);
    let process = start(dir.path()).await;
    let before = caller(&old, "spiffe://shop/till", |_| {});
    let channel = connect(&process, &old, Some(&before)).await.expect("known");
    create(&channel, "A").await.expect("created");

    put(dir.path(), &server(&new), &new);
    let both = format!("{}{}", old.pem(), new.pem());
    fs::write(dir.path().join("callers.pem"), both).expect("written");
    process.signal("HUP").await;
    let after = caller(&new, "spiffe://shop/till", |_| {});
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let fresh = loop {
        match connect(&process, &new, Some(&after)).await {
            Ok(channel) => break channel,
            Err(error) => assert!(tokio::time::Instant::now() < deadline, "{error}"),
        }
        create(&channel, &format!("B {:?}", deadline.elapsed()))
            .await
            .ok();
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    create(&fresh, "C").await.expect("created");
    create(&channel, "D")
        .await
        .expect("the connection is still there");
    connect(&process, &old, Some(&before))
        .await
        .expect_err("the server has another one");

    // Once the old authority is removed, open connections of its callers are closed.
    let mut feed = follow(&channel).await;
    fs::write(dir.path().join("callers.pem"), new.pem()).expect("written");
    process.signal("HUP").await;
    let ended = async { while feed.message().await.is_ok() {} };
    let ended = tokio::time::timeout(TIMEOUT, ended).await;
    ended.expect("the connection is closed");
    create(&channel, "E").await.expect_err("not trusted");
    create(&fresh, "E").await.expect("it stays");

    // An invalid certificate file changes nothing.
    fs::write(dir.path().join("server.pem"), "nonsense").expect("written");
    process.wait_for_log("cannot reload TLS certificates").await;
    let channel = connect(&process, &new, Some(&after)).await.expect("known");
    create(&channel, "F").await.expect("created");
    let log = process.stop().await;
    let warnings: Vec<_> = log.lines().filter(|line| line.contains(" WARN ")).collect();
    assert!(warnings.len() == 1, "{warnings:?}");
}

#[tokio::test]
async fn invalid_certificates_fail_startup() {
    let dir = tempfile::tempdir().expect("a directory");
    let (one, other) = (authority(), authority());
    let (a, b) = (server(&one), server(&other));
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let certificate = file("a.pem", &a.certificate);
    let key = file("a.key", &a.key);
    let foreign = file("b.key", &b.key);
    let nonsense = file("nonsense", "nonsense");
    let missing = dir.path().join("missing").display().to_string();
    let url = format!("sqlite:{}", dir.path().join("new.db").display());
    for (args, part) in [
        (vec!["--tls-certificate", &certificate], "--tls-key"),
        (vec!["--tls-key", &key], "--tls-certificate"),
        (vec!["--tls-client-ca", &certificate], "--tls-certificate"),
        (
            vec!["--tls-certificate", &missing, "--tls-key", &key],
            "--tls-certificate",
        ),
        (
            vec!["--tls-certificate", &certificate, "--tls-key", &missing],
            "--tls-key",
        ),
        (
            vec!["--tls-certificate", &nonsense, "--tls-key", &key],
            "no certificate in it",
        ),
        (
            vec!["--tls-certificate", &certificate, "--tls-key", &nonsense],
            "no private key",
        ),
        (
            vec!["--tls-certificate", &certificate, "--tls-key", &foreign],
            "--tls-key",
        ),
        (
            vec![
                "--tls-certificate",
                &certificate,
                "--tls-key",
                &key,
                "--tls-client-ca",
                &nonsense,
            ],
            "--tls-client-ca",
        ),
        (vec!["--grant", "till"], "--grant"),
        (vec!["--grant", "till=everything"], "is no permission"),
        // TLS alone doesn't authenticate callers.
        (
            vec![
                "--tls-certificate",
                &certificate,
                "--tls-key",
                &key,
                "--listen",
                "0.0.0.0:0",
            ],
            "--insecure",
        ),
    ] {
        let args = [&["--database-url", &url], &args[..]].concat();
        let complaint = refused(&output(&args, &[]).await);
        assert!(complaint.contains(part), "{args:?}: {complaint}");
        assert!(!dir.path().join("new.db").exists(), "nothing was opened");
    }
}

#[tokio::test]
async fn http1_over_tls_gets_http1_response() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, theirs) = (authority(), authority());
    put(dir.path(), &server(&ours), &theirs);
    let server = start(dir.path()).await;
    let mut roots = RootCertStore::empty();
    roots.add(ours.der().clone()).expect("an authority");
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    for protocols in [vec![], vec![b"http/1.1".to_vec()]] {
        let mut config = config.clone();
        config.alpn_protocols = protocols;
        let stream = TcpStream::connect(server.address).await.expect("connected");
        let name = "group-service.test".try_into().expect("a name");
        let connector = TlsConnector::from(Arc::new(config));
        let stream = connector.connect(name, stream).await.expect("connected");
        let answer = http_1(stream, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_version_not_supported(&answer);
    }
    server.stop().await;
}
