//! Client certificates: valid caller names, expiry, and session resumption.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use group_service::pb::{
    self, change_service_client::ChangeServiceClient, role_service_client::RoleServiceClient,
};
use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, SanType, date_time_ymd};
use tokio::net::TcpStream;
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, HandshakeKind, RootCertStore, SupportedProtocolVersion,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
        version::{TLS12, TLS13},
    },
};
use tonic::{Code, transport::Channel};

use crate::{
    harness::expect_error,
    protocol::http_1,
    tls::{Authority, Signed, authority, caller, connect, put, server, sign, start},
};

async fn create(channel: &Channel, name: &str) -> Result<(), tonic::Status> {
    let request = pb::CreateRoleRequest {
        name: name.to_owned(),
        ..Default::default()
    };
    let mut roles = RoleServiceClient::new(channel.clone());
    roles.create_role(request).await.map(drop)
}

fn client(
    ours: &Authority,
    with: &Signed,
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(ours.der().clone()).expect("an authority");
    let chain = CertificateDer::from_pem_slice(with.certificate.as_bytes()).expect("a certificate");
    let key = PrivateKeyDer::from_pem_slice(with.key.as_bytes()).expect("a key");
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![chain], key)
        .expect("they go together")
}

#[tokio::test]
async fn tls_sessions_with_client_certificates_are_not_resumed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, theirs) = (authority(), authority());
    put(dir.path(), &server(&ours), &theirs);
    let server = start(dir.path()).await;
    let till = caller(&theirs, "spiffe://shop/till", |_| {});
    for version in [&TLS12, &TLS13] {
        // The client would resume sessions.
        let connector = TlsConnector::from(Arc::new(client(&ours, &till, version)));
        for _ in 0..3 {
            let stream = TcpStream::connect(server.address).await.expect("connected");
            let name = "group-service.test".try_into().expect("a name");
            let stream = connector.connect(name, stream).await.expect("connected");
            let kind = stream.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(HandshakeKind::Full), "{version:?}");
            // In TLS 1.3 the server sends session tickets after the handshake.
            http_1(stream, b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn connection_closes_when_client_certificate_expires() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, theirs) = (authority(), authority());
    put(dir.path(), &server(&ours), &theirs);
    let server = start(dir.path()).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("later");
    let expires = date_time_ymd(1970, 1, 1) + now + Duration::from_secs(5);
    let till = caller(&theirs, "spiffe://shop/till", |params| {
        params.not_after = expires;
    });
    let channel = connect(&server, &ours, Some(&till)).await.expect("known");
    create(&channel, "A").await.expect("created");
    let mut changes = ChangeServiceClient::new(channel.clone());
    let watched = changes
        .watch_changes(pb::WatchChangesRequest::default())
        .await;
    let mut watched = watched.expect("watched").into_inner();
    let end = async { while let Ok(Some(_)) = watched.message().await {} };
    let ended = tokio::time::timeout(Duration::from_secs(60), end).await;
    ended.expect("it ends with the certificate");
    // A new connection is rejected.
    create(&channel, "B").await.expect_err("expired");
    server.stop().await;
}

/// A client certificate with these subject alternative names.
fn named(authority: &Authority, uris: &[&str], dns: &[&str]) -> Signed {
    sign(authority, |params| {
        let uris = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().expect("ASCII")));
        let dns = dns
            .iter()
            .map(|name| SanType::DnsName((*name).try_into().expect("ASCII")));
        params.subject_alt_names.extend(uris.chain(dns));
        client_auth(params);
    })
}

fn client_auth(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
}

#[tokio::test]
async fn certificate_must_name_exactly_one_caller_in_canonical_form() {
    let dir = tempfile::tempdir().expect("a directory");
    let (ours, theirs) = (authority(), authority());
    put(dir.path(), &server(&ours), &theirs);
    let server = start(dir.path()).await;
    // A URI with a trailing no-break space, which trimming would remove.
    let blank = sign(&theirs, |params| {
        let uri = "spiffe://shop/till\u{a0}".as_bytes();
        let length = |more: usize| u8::try_from(uri.len() + more).expect("short");
        let names = [&[0x30, length(2), 0x86, length(0)], uri].concat();
        let names = CustomExtension::from_oid_content(&[2, 5, 29, 17], names);
        params.custom_extensions.push(names);
        client_auth(params);
    });
    let till = "spiffe://shop/till";
    for (what, with) in [
        ("a no-break space", blank),
        (
            "a space behind",
            named(&theirs, &["spiffe://shop/till "], &[]),
        ),
        (
            "a space before",
            named(&theirs, &[" spiffe://shop/till"], &[]),
        ),
        (
            "two URIs",
            named(&theirs, &[till, "spiffe://shop/desk/7"], &[]),
        ),
        ("the same twice", named(&theirs, &[till, till], &[])),
        (
            "two DNS names",
            named(&theirs, &[], &["till.shop", "desk.shop"]),
        ),
        ("no scheme", named(&theirs, &["till.shop"], &[])),
        (
            "capitals in the host",
            named(&theirs, &["spiffe://SHOP/till"], &[]),
        ),
        (
            "capitals in the scheme",
            named(&theirs, &["SPIFFE://shop/till"], &[]),
        ),
        (
            "capitals in a DNS name",
            named(&theirs, &[], &["Till.shop"]),
        ),
        ("a dot at the end", named(&theirs, &[], &["till.shop."])),
        ("an escape", named(&theirs, &["spiffe://shop/%74ill"], &[])),
        (
            "the folder above",
            named(&theirs, &["spiffe://shop/desk/../till"], &[]),
        ),
        (
            "the same folder",
            named(&theirs, &["spiffe://shop/./till"], &[]),
        ),
    ] {
        let channel = connect(&server, &ours, Some(&with)).await.expect("TLS");
        let refused = create(&channel, "A").await.map(tonic::Response::new);
        assert_eq!(expect_error(refused).code, Code::Unauthenticated, "{what}");
    }
    for (what, with) in [
        ("a URI", named(&theirs, &[till], &[])),
        (
            "a URI beside DNS names",
            named(&theirs, &[till], &["a.shop", "b.shop"]),
        ),
        ("a DNS name", named(&theirs, &[], &["till.shop"])),
    ] {
        let channel = connect(&server, &ours, Some(&with)).await.expect("TLS");
        create(&channel, what).await.expect(what);
    }
    // The wildcard doesn't match the empty string.
    let desk = named(&theirs, &["spiffe://shop/desk/"], &[]);
    let channel = connect(&server, &ours, Some(&desk)).await.expect("TLS");
    let request = pb::ListRolesRequest::default();
    let listed = RoleServiceClient::new(channel).list_roles(request).await;
    assert_eq!(expect_error(listed).code, Code::PermissionDenied);
    server.stop().await;
}
