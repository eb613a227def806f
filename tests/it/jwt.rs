//! Authentication by JWTs: valid, invalid and forged ones.

mod issuer;

use std::{fs, path::Path, time::Duration};

use aws_lc_rs::hmac;
use group_service::pb::{self, change_service_client::ChangeServiceClient};
use serde_json::json;
use tokio::{process::Command, sync::watch, time::Instant};
use tonic::{Code, transport::Channel};

use self::issuer::{AUDIENCE, ISSUER, Key, Server, claims, encode, message, now, set};
use crate::{
    auth::with,
    harness::{
        Process, binary, expect_error,
        raw::{RawResponse, send},
    },
    settings::{output, refused},
    tls::{Authority, Signed, authority, connect, put, server},
};

const LIST: &str = "/groups.v1.GroupService/ListGroups";

/// A server over TLS that trusts the issuer.
struct JwtServer {
    dir: tempfile::TempDir,
    authority: Authority,
    process: Process,
    channel: Channel,
}

impl JwtServer {
    /// Starts a server with these keys in a file.
    async fn start(keys: &[&Key]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys.json");
        fs::write(&path, set(keys)).expect("written");
        let keys = path.display().to_string();
        Self::with(dir, &keys, |_| {}).await
    }

    async fn with(dir: tempfile::TempDir, keys: &str, adjust: impl FnOnce(&mut Command)) -> Self {
        let authority = authority();
        put(dir.path(), &server(&authority), &authority);
        let file = |name: &str| dir.path().join(name).display().to_string();
        let mut command = binary();
        command
            .args(["--listen", "127.0.0.1:0", "--authentication", "required"])
            .args(["--database-url", &database(dir.path())])
            .args(["--tls-certificate", &file("server.pem")])
            .args(["--tls-key", &file("key.pem")])
            .args(["--log", "info,group_service=debug"])
            .args(["--jwt-keys", keys, "--jwt-issuer", ISSUER])
            .args(["--jwt-audience", AUDIENCE])
            .args(["--grant", "jwt:till=read,write,audit"])
            .args(["--grant", "desk/*=check"]);
        adjust(&mut command);
        let process = Process::spawn(command).await;
        let channel = connect(&process, &authority, None).await;
        Self {
            channel: channel.expect("TLS"),
            dir,
            authority,
            process,
        }
    }

    fn put(&self, keys: &[&Key]) {
        put_set(self.dir.path(), &set(keys));
    }

    async fn list(&self, token: &str) -> RawResponse {
        list(&self.channel, token).await
    }

    /// Waits until a token is accepted or rejected.
    async fn wait_until_accepted(&self, token: &str, wanted: bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.list(token).await.is_ok() != wanted {
            assert!(Instant::now() < deadline, "{wanted} in vain");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn follow(&self, token: &str) -> tonic::Streaming<pb::WatchChangesResponse> {
        let mut changes = ChangeServiceClient::new(self.channel.clone());
        let request = with(pb::WatchChangesRequest::default(), token);
        let followed = changes.watch_changes(request).await;
        followed.expect("followed").into_inner()
    }
}

fn database(dir: &Path) -> String {
    format!("sqlite:{}", dir.join("jwt.db").display())
}

/// Replaces the key set file atomically.
fn put_set(dir: &Path, set: &str) {
    fs::write(dir.join("new.json"), set).expect("written");
    fs::rename(dir.join("new.json"), dir.join("keys.json")).expect("renamed");
}

async fn list(channel: &Channel, token: &str) -> RawResponse {
    send(channel, LIST, with(Vec::new(), token)).await
}

/// Waits until a watch stream ends; returns its status code.
async fn ended(mut feed: tonic::Streaming<pb::WatchChangesResponse>) -> Code {
    let end = async {
        loop {
            match feed.message().await {
                Ok(Some(_)) => {}
                end => return end.expect_err("an error").code(),
            }
        }
    };
    let end = tokio::time::timeout(Duration::from_secs(30), end).await;
    end.expect("it ends")
}

#[tokio::test]
async fn jwt_signed_by_issuer_identifies_caller() {
    let algorithms = [
        "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA",
    ];
    let keys = algorithms.map(|algorithm| Key::new(algorithm, algorithm));
    let w = JwtServer::start(&keys.each_ref()).await;
    for key in &keys {
        // The second time, the verification is cached.
        let token = key.token("till");
        for _ in 0..2 {
            let answer = w.list(&token).await;
            answer.unwrap_or_else(|status| panic!("{}: {status}", key.algorithm));
        }
    }
    // Authenticated, but without the permission.
    let [.., ed] = &keys;
    for caller in ["desk/7", "till2", "nobody"] {
        let denied = expect_error(w.list(&ed.token(caller)).await);
        assert_eq!(denied.code, Code::PermissionDenied, "{caller}");
        assert_eq!(denied.metadata["permission"], "read");
    }
    let check = "/groups.v1.AccessService/BatchCheckAccess";
    let asked = send(&w.channel, check, with(Vec::new(), &ed.token("desk/7"))).await;
    assert_ne!(expect_error(asked).code, Code::PermissionDenied);

    // Valid: several audiences, a past `nbf`, fractional times, and no `kid` if only one key matches.
    let mut many = claims("till");
    many["aud"] = json!(["account", AUDIENCE]);
    many["nbf"] = json!(now() - 1);
    many["exp"] = json!(300.5 + f64::from(u32::try_from(now()).expect("before 2106")));
    let header = json!({"alg": "EdDSA"});
    w.list(&ed.sign(&header, &many)).await.expect("known");
    // A small clock skew is tolerated.
    let mut apart = claims("till");
    apart["nbf"] = json!(now() + 5);
    w.list(&ed.sign(&ed.header(), &apart)).await.expect("known");

    let mut roles = pb::role_service_client::RoleServiceClient::new(w.channel.clone());
    let role = pb::CreateRoleRequest {
        name: "A".to_owned(),
        ..Default::default()
    };
    let created = roles.create_role(with(role, &ed.token("till"))).await;
    created.expect("created");
    let mut changes = ChangeServiceClient::new(w.channel.clone());
    let request = with(pb::ListChangesRequest::default(), &ed.token("till"));
    let listed = changes.list_changes(request).await.expect("listed");
    assert_eq!(listed.into_inner().changes[0].actor, "till");

    // The service's own tokens are still accepted.
    let url = database(w.dir.path());
    let create = ["token", "create", "own", "--permissions", "read"];
    let created = output(&[&create[..], &["--database-url", &url]].concat(), &[]).await;
    let own = String::from_utf8(created.stdout).expect("text");
    w.wait_until_accepted(own.trim_end(), true).await;
    w.process.stop().await;
}

#[tokio::test]
async fn invalid_jwts_all_get_the_same_error() {
    let (rsa, ec, foreign) = (
        Key::new("rsa", "RS256"),
        Key::new("ec", "ES256"),
        Key::new("ec", "ES256"),
    );
    let w = JwtServer::start(&[&rsa, &ec]).await;
    let good = ec.token("till");
    w.list(&good).await.expect("known");
    let changed = |name: &str, value: serde_json::Value| {
        let mut claims = claims("till");
        claims[name] = value;
        ec.sign(&ec.header(), &claims)
    };
    let without = |name: &str| {
        let mut claims = claims("till");
        claims.as_object_mut().expect("an object").remove(name);
        ec.sign(&ec.header(), &claims)
    };
    let headed = |name: &str, value: serde_json::Value| {
        let mut header = ec.header();
        header[name] = value;
        ec.sign(&header, &claims("till"))
    };
    // Signed with public information as the secret.
    let symmetric = |key: &Key, algorithm: &str, secret: &[u8]| {
        let header = json!({"alg": algorithm, "kid": key.id});
        let message = message(&header, &claims("till"));
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let tag = hmac::sign(&secret, message.as_bytes());
        format!("{message}.{}", encode(tag))
    };
    let unsigned = |algorithm: &str| {
        let header = json!({"alg": algorithm, "kid": "ec"});
        format!("{}.", message(&header, &claims("till")))
    };
    let parts: Vec<_> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        panic!("{good}")
    };
    let other = encode(claims("admin").to_string());
    let own_jwk = {
        let mut header = json!({"alg": "ES256", "jwk": foreign.jwk()});
        header["kid"] = "ec".into();
        foreign.sign(&header, &claims("till"))
    };
    let of_url = |name: &str| {
        let mut header = json!({"alg": "ES256", "kid": "ec"});
        header[name] = "http://127.0.0.1:9/keys".into();
        foreign.sign(&header, &claims("till"))
    };
    let zeros = format!("{header}.{payload}.{}", encode([0; 64]));
    let twice = {
        let claims = claims("till").to_string();
        let claims = claims.replacen('{', r#"{"sub":"admin","#, 1);
        let message = format!("{header}.{}", encode(claims));
        format!("{message}.{}", encode(ec.signature(message.as_bytes())))
    };
    let no_text = {
        let mut claims = claims("till").to_string().into_bytes();
        claims.pop();
        claims.extend(b",\"aside\":\"\xff\"}");
        let message = format!("{header}.{}", encode(claims));
        format!("{message}.{}", encode(ec.signature(message.as_bytes())))
    };
    let bad = [
        ("no algorithm", unsigned("none")),
        ("no algorithm, spelt otherwise", unsigned("nOnE")),
        ("no signature", unsigned("ES256")),
        ("no signature and no dot", format!("{header}.{payload}")),
        (
            "the public key as a secret",
            symmetric(&ec, "HS256", &ec.public()),
        ),
        ("the same, of RSA", symmetric(&rsa, "HS256", &rsa.public())),
        ("an empty secret", symmetric(&ec, "HS256", b"")),
        ("another algorithm's name", symmetric(&ec, "ES256", b"")),
        (
            "another key's algorithm",
            ec.sign(&json!({"alg": "ES256", "kid": "rsa"}), &claims("till")),
        ),
        (
            "an algorithm that the key isn't for",
            rsa.sign(&json!({"alg": "RS512", "kid": "rsa"}), &claims("till")),
        ),
        ("of another key", foreign.token("till")),
        ("with the key in it", own_jwk),
        ("with a URL of keys", of_url("jku")),
        ("with a URL of certificates", of_url("x5u")),
        ("another's claims", format!("{header}.{other}.{signature}")),
        ("zeros", zeros),
        ("a claim twice", twice),
        ("no text in a claim that nobody reads", no_text),
        ("critical extensions", headed("crit", json!(["exp"]))),
        ("no critical extensions", headed("crit", json!([]))),
        (
            "a path for an id",
            headed("kid", json!("../../../../dev/null")),
        ),
        ("SQL for an id", headed("kid", json!("ec' OR '1'='1"))),
        ("an empty id", headed("kid", json!(""))),
        ("a huge id", headed("kid", json!("k".repeat(5000)))),
        ("a number for an id", headed("kid", json!(1))),
        (
            "another issuer",
            changed("iss", json!("https://id.shop.example")),
        ),
        ("no issuer in a list", changed("iss", json!([]))),
        ("an issuer in a list", changed("iss", json!([ISSUER]))),
        (
            "several issuers",
            changed("iss", json!([ISSUER, "https://id.other.example"])),
        ),
        ("a logout token", headed("typ", json!("logout+jwt"))),
        ("an ID token", headed("typ", json!("id_token+jwt"))),
        ("a proof", headed("typ", json!("application/DPoP+jwt"))),
        ("Keycloak's ID token", changed("typ", json!("ID"))),
        ("Keycloak's logout token", changed("typ", json!("Logout"))),
        ("Keycloak's refresh token", changed("typ", json!("Refresh"))),
        ("a nonce", changed("nonce", json!("n-0S6_WzA2Mj"))),
        ("a digest of another token", changed("at_hash", json!("x"))),
        (
            "logout events",
            changed(
                "events",
                json!({"http://schemas.openid.net/event/backchannel-logout": {}}),
            ),
        ),
        ("no issuer", without("iss")),
        ("another audience", changed("aud", json!("account"))),
        (
            "other audiences",
            changed("aud", json!(["account", "group"])),
        ),
        (
            "an audience of another type",
            changed("aud", json!({AUDIENCE: true})),
        ),
        ("no audience", without("aud")),
        ("expired", changed("exp", json!(now() - 60))),
        ("before 1970", changed("exp", json!(-1))),
        ("a text for a time", changed("exp", json!("9999999999"))),
        ("no end", changed("exp", json!(null))),
        ("no end at all", without("exp")),
        ("not valid yet", changed("nbf", json!(now() + 60))),
        ("a beginning that is none", changed("nbf", json!("soon"))),
        ("no caller", without("sub")),
        ("an empty caller", changed("sub", json!(""))),
        ("a caller with spaces", changed("sub", json!(" till"))),
        (
            "a caller of two lines",
            changed("sub", json!("till\nadmin")),
        ),
        ("a caller of another type", changed("sub", json!(["till"]))),
        ("huge claims", changed("groups", json!("g".repeat(7000)))),
        ("deep claims", {
            let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
            let message = format!("{header}.{}", encode(deep));
            format!("{message}.{}", encode(ec.signature(message.as_bytes())))
        }),
        ("truncated", good[..good.len() - 1].to_owned()),
        ("longer", format!("{good}A")),
        ("four parts", format!("{good}.{signature}")),
        ("padded", format!("{good}=")),
        ("with a space", format!("{good} ")),
        ("doubled", format!("{good} {good}")),
        ("dots", "..".to_owned()),
        ("no base64", "a.b.c".to_owned()),
        ("nothing", String::new()),
    ];
    let mut answers = Vec::new();
    for (what, token) in &bad {
        answers.push((*what, expect_error(w.list(token).await)));
    }
    let mut twice = with(Vec::new(), &good);
    let value = format!("Bearer {good}").parse().expect("ASCII");
    twice.metadata_mut().append("authorization", value);
    answers.push((
        "the header twice",
        expect_error(send(&w.channel, LIST, twice).await),
    ));
    let mut basic = with(Vec::new(), &good);
    let value = format!("Basic {good}").parse().expect("ASCII");
    basic.metadata_mut().insert("authorization", value);
    answers.push((
        "another scheme",
        expect_error(send(&w.channel, LIST, basic).await),
    ));
    let message = &answers[0].1.message;
    for (what, answer) in &answers {
        assert_eq!(answer.code, Code::Unauthenticated, "{what}: {answer:?}");
        assert_eq!(answer.reason, "UNAUTHENTICATED", "{what}");
        assert_eq!(answer.message, *message, "{what}");
        assert!(answer.metadata.is_empty(), "{what}: {answer:?}");
    }
    w.list(&good).await.expect("still known");
    let log = w.process.stop().await;
    for part in [parts[1], parts[2], "admin", "dev/null"] {
        assert!(!log.contains(part), "a token in the log: {part}");
    }
    for reason in ["signature is wrong", "another issuer's", "has expired"] {
        assert!(log.contains(reason), "{reason}: {log}");
    }
}

#[tokio::test]
async fn jwt_keys_rotate_without_restart_or_failed_calls() {
    let (old, new) = (Key::new("1", "ES256"), Key::new("2", "EdDSA"));
    let w = JwtServer::start(&[&old]).await;
    let before = old.token("till");
    w.wait_until_accepted(&before, true).await;
    let feed = w.follow(&before).await;
    // Callers that use the issuer's latest token, and retry once with the latest token at that time.
    let (latest, tokens) = watch::channel(before.clone());
    let (stop, stopping) = watch::channel(false);
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (channel, tokens, stopping) = (w.channel.clone(), tokens.clone(), stopping.clone());
            tokio::spawn(async move {
                let mut calls = 0;
                while !*stopping.borrow() {
                    let token = tokens.borrow().clone();
                    if list(&channel, &token).await.is_err() {
                        let token = tokens.borrow().clone();
                        list(&channel, &token).await.expect("known");
                    }
                    calls += 1;
                }
                calls
            })
        })
        .collect();

    // Key rotation: the new key is published before it is used, and the old one until it is no longer used.
    let after = new.token("till");
    w.wait_until_accepted(&after, false).await;
    w.put(&[&old, &new]);
    w.wait_until_accepted(&after, true).await;
    w.list(&before).await.expect("known by the old key");
    latest.send_replace(after.clone());
    w.put(&[&new]);
    w.process.signal("HUP").await;
    w.wait_until_accepted(&before, false).await;
    w.list(&after).await.expect("known by the new key");
    assert_eq!(ended(feed).await, Code::Unauthenticated);

    // An invalid key set, or one without a usable key, changes nothing.
    let followed = w.follow(&after).await;
    let secret = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "2"}]}).to_string();
    for bad in ["nonsense", r#"{"keys": []}"#, &secret] {
        put_set(w.dir.path(), bad);
        w.process.signal("HUP").await;
        w.list(&after).await.expect("known by the new key");
    }
    fs::remove_file(w.dir.path().join("keys.json")).expect("removed");
    w.process.signal("HUP").await;
    w.list(&after).await.expect("known by the new key");
    stop.send_replace(true);
    for caller in callers {
        assert!(caller.await.expect("no failed call") > 0);
    }

    // A different key with the same id replaces the old one.
    let third = Key::new("2", "EdDSA");
    w.put(&[&third]);
    w.wait_until_accepted(&third.token("till"), true).await;
    assert_eq!(ended(followed).await, Code::Unauthenticated);
    w.wait_until_accepted(&after, false).await;

    let log = w.process.stop().await;
    assert!(log.contains("JWT keys reloaded"), "{log}");
    assert!(log.contains("cannot read JWT keys from"), "{log}");
}

#[tokio::test]
async fn expired_jwt_ends_its_streams() {
    let key = Key::new("1", "ES256");
    let w = JwtServer::start(&[&key]).await;
    let mut claims = claims("till");
    // Expired, but within the tolerated clock skew.
    claims["exp"] = json!(now() - 5);
    let token = key.sign(&key.header(), &claims);
    let feed = w.follow(&token).await;
    assert_eq!(ended(feed).await, Code::Unauthenticated);
    // The cached verification ends at that time, too.
    let refused = expect_error(w.list(&token).await);
    assert_eq!(refused.code, Code::Unauthenticated);
    w.process.stop().await;
}

#[tokio::test]
async fn jwt_keys_are_fetched_from_url() {
    let (first, second, third) = (
        Key::new("1", "ES256"),
        Key::new("2", "ES256"),
        Key::new("3", "ES256"),
    );
    let authority = authority();
    let issuer = Server::start(set(&[&first]), Some(&local(&authority))).await;
    let dir = tempfile::tempdir().expect("a directory");
    let ca = dir.path().join("issuer.pem");
    fs::write(&ca, authority.pem()).expect("written");
    let url = format!("https://localhost:{}/keys?of=shop", issuer.address.port());
    let w = JwtServer::with(dir, &url, |command| {
        command.env("SSL_CERT_FILE", &ca);
    });
    let w = w.await;
    w.list(&first.token("till")).await.expect("known at once");
    assert_eq!(issuer.asked(), 1);

    // An unknown key is fetched once, for all concurrent calls.
    issuer.tell("200 OK", set(&[&first, &second]));
    let begun = Instant::now();
    w.wait_until_accepted(&second.token("till"), true).await;
    for number in 0..200 {
        let header = json!({"alg": "ES256", "kid": format!("nonsense {number}")});
        let nonsense = second.sign(&header, &claims("till"));
        assert_eq!(
            expect_error(w.list(&nonsense).await).code,
            Code::Unauthenticated
        );
    }
    let most = 2 + usize::try_from(begun.elapsed().as_secs() / 5).expect("small");
    assert!(issuer.asked() <= most, "{} > {most}", issuer.asked());

    // Invalid responses change nothing.
    let huge = format!("{}{}", set(&[&third]), " ".repeat(2 << 20));
    for (status, body) in [
        ("500 Internal Server Error", set(&[&third])),
        ("302 Found", set(&[&third])),
        ("200 OK", "nonsense".to_owned()),
        ("200 OK", huge),
    ] {
        let asked = issuer.asked();
        issuer.tell(status, body);
        w.process.signal("HUP").await;
        let deadline = Instant::now() + Duration::from_secs(20);
        while issuer.asked() == asked {
            assert!(Instant::now() < deadline, "{status}: not asked");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        w.list(&second.token("till")).await.expect("still known");
        let refused = expect_error(w.list(&third.token("till")).await);
        assert_eq!(refused.code, Code::Unauthenticated);
    }
    issuer.tell("200 OK", set(&[&third]));
    w.process.signal("HUP").await;
    w.wait_until_accepted(&third.token("till"), true).await;
    w.wait_until_accepted(&second.token("till"), false).await;
    drop(issuer);
    w.process.signal("HUP").await;
    w.list(&third.token("till")).await.expect("still known");
    connect(&w.process, &w.authority, None).await.expect("up");
    let log = w.process.stop().await;
    assert!(log.contains("cannot read JWT keys from"), "{log}");
    assert!(!log.contains("of=shop"), "{log}");
}

/// A certificate for `localhost`.
fn local(authority: &Authority) -> Signed {
    crate::tls::named(authority, "localhost")
}

#[tokio::test]
async fn unavailable_or_untrusted_issuer_blocks_nothing() {
    let key = Key::new("1", "ES256");
    let (ours, theirs) = (authority(), authority());
    let other = Server::start(set(&[&key]), Some(&local(&theirs))).await;
    let plain = Server::start(set(&[&key]), None).await;
    for (url, accepted) in [
        ("https://127.0.0.1:1/keys?of=shop".to_owned(), false),
        // The certificate isn't trusted.
        (
            format!("https://localhost:{}/keys?of=shop", other.address.port()),
            false,
        ),
        // Plain HTTP is safe on loopback.
        (format!("http://{}/keys?of=shop", plain.address), true),
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = dir.path().join("issuer.pem");
        fs::write(&ca, ours.pem()).expect("written");
        let w = JwtServer::with(dir, &url, |command| {
            command.env("SSL_CERT_FILE", &ca);
        });
        let w = w.await;
        let answer = w.list(&key.token("till")).await;
        assert_eq!(answer.is_ok(), accepted, "{url}");
        let log = w.process.stop().await;
        assert_eq!(
            log.contains("cannot read JWT keys from"),
            !accepted,
            "{log}"
        );
    }
    assert_eq!(other.asked(), 0);
}

#[tokio::test]
async fn invalid_jwt_settings_fail_startup() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let key = Key::new("1", "ES256");
    let good = file("good", &set(&[&key]));
    let nonsense = file("nonsense", "nonsense");
    let empty = file("empty", r#"{"keys": []}"#);
    let symmetric = json!({"keys": [key.jwk(), {"kty": "oct", "k": "c2VjcmV0", "kid": "hs"}]});
    let symmetric = file("symmetric", &symmetric.to_string());
    let twice = file("twice", &set(&[&key, &key]));
    let mut jwk = key.jwk();
    jwk["use"] = "enc".into();
    let encrypts = file("encrypts", &json!({ "keys": [jwk] }).to_string());
    let short = json!({"kty": "RSA", "kid": "short", "n": encode([255; 128]), "e": "AQAB"});
    let short = file("short", &json!({ "keys": [short] }).to_string());
    let mut jwk = key.jwk();
    jwk["alg"] = "HS256".into();
    let confused = file("confused", &json!({ "keys": [jwk] }).to_string());
    let missing = dir.path().join("missing").display().to_string();
    let url = database(dir.path());
    let named = ["--jwt-issuer", ISSUER, "--jwt-audience", AUDIENCE];
    let none = "no key in it to verify";
    for (keys, args, part) in [
        (&good, &[][..], "--jwt-issuer"),
        (&good, &["--jwt-issuer", ISSUER], "--jwt-audience"),
        (&good, &["--jwt-audience", AUDIENCE], "--jwt-issuer"),
        (
            &good,
            &["--jwt-issuer", "", "--jwt-audience", AUDIENCE],
            "--jwt-issuer",
        ),
        (&missing, &named, "missing"),
        (&nonsense, &named, "is no JWK set (line 1, column 2)"),
        (&empty, &named, none),
        (&encrypts, &named, none),
        (&short, &named, none),
        (&confused, &named, none),
        (&twice, &named, r#"the key "1" is in it twice"#),
        (&symmetric, &named, r#"the key "hs" in it is symmetric"#),
        (
            &"http://id.shop.example/keys".to_owned(),
            &named,
            "https://",
        ),
        (&"ftp://localhost/keys".to_owned(), &named, "https://"),
        (
            &"https://me:word@id.shop.example/keys".to_owned(),
            &named,
            "https://",
        ),
    ] {
        let all = ["--authentication", "required", "--database-url", &url];
        let args = [&all, &["--jwt-keys", keys][..], args].concat();
        let complaint = refused(&output(&args, &[]).await);
        assert!(complaint.contains(part), "{args:?}: {complaint}");
        assert!(!dir.path().join("jwt.db").exists(), "nothing was opened");
    }
    let off = ["--database-url", &url, "--jwt-keys", &good];
    let complaint = refused(&output(&[&off[..], &named].concat(), &[]).await);
    assert!(
        complaint.contains("--authentication required"),
        "{complaint}"
    );
}

#[tokio::test]
async fn signature_verification_stops_for_addresses_over_failure_limit() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("keys.json");
    let key = Key::new("ES256", "ES256");
    fs::write(&path, set(&[&key])).expect("written");
    let rate = |command: &mut Command| {
        command.args(["--max-rate", "20"]);
    };
    let w = JwtServer::with(dir, &path.display().to_string(), rate).await;
    let known = key.token("till");
    w.list(&known).await.expect("known");
    let wrong = Key::new("ES256", "ES256").token("till");
    let end = Instant::now() + Duration::from_secs(30);
    for number in 0.. {
        assert!(Instant::now() < end, "every signature is verified");
        while expect_error(w.list(&wrong).await).code != Code::ResourceExhausted {}
        // Cached verifications are still used.
        w.list(&known).await.expect("known");
        // A new valid token may have to wait, because verifications are rate-limited.
        let mut claims = claims("till");
        claims["exp"] = json!(now() + 300 + number);
        if let Err(refused) = w.list(&key.sign(&key.header(), &claims)).await {
            assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
            break;
        }
    }
    w.process.stop().await;
}

#[tokio::test]
async fn jwt_type_is_checked_and_required_when_configured() {
    let key = Key::new("ec", "ES256");
    let typed = |typ: Option<&str>| {
        let mut header = key.header();
        header.as_object_mut().expect("an object").remove("typ");
        if let Some(typ) = typ {
            header["typ"] = typ.into();
        }
        key.sign(&header, &claims("till"))
    };
    let w = JwtServer::start(&[&key]).await;
    for typ in [
        None,
        Some("JWT"),
        Some("jwt"),
        Some("at+jwt"),
        Some("application/at+JWT"),
    ] {
        let listed = w.list(&typed(typ)).await;
        listed.unwrap_or_else(|status| panic!("{typ:?}: {status}"));
    }
    // Access tokens of Keycloak.
    let mut bearer = claims("till");
    bearer["typ"] = "Bearer".into();
    let listed = w.list(&key.sign(&key.header(), &bearer)).await;
    listed.expect("known");

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("keys.json");
    fs::write(&path, set(&[&key])).expect("written");
    let keys = path.display().to_string();
    let strict = JwtServer::with(dir, &keys, |command| {
        command.args(["--jwt-type", "at+jwt"]);
    });
    let w = strict.await;
    for typ in ["at+jwt", "AT+JWT", "application/at+jwt"] {
        w.list(&typed(Some(typ))).await.expect(typ);
    }
    for typ in [None, Some("JWT"), Some("application/"), Some("at+jwt2")] {
        let refused = expect_error(w.list(&typed(typ)).await);
        assert_eq!(refused.code, Code::Unauthenticated, "{typ:?}");
    }
}

#[tokio::test]
async fn grants_apply_to_one_credential_kind_when_both_are_configured() {
    let key = Key::new("ec", "ES256");
    let w = JwtServer::start(&[&key]).await;
    // The wildcard matches neither the empty string nor dot segments.
    for caller in ["desk/", "desk/../till", "desk/.", "desk/7/.."] {
        let denied = expect_error(check(&w, &key.token(caller)).await);
        assert_eq!(denied.code, Code::PermissionDenied, "{caller}");
    }
    let allowed = check(&w, &key.token("desk/7")).await;
    assert_eq!(expect_error(allowed).code, Code::InvalidArgument);

    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("keys.json");
    fs::write(&path, set(&[&key])).expect("written");
    let keys = path.display().to_string();
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (certificate, private, url) = (file("server.pem"), file("key.pem"), database(dir.path()));
    let complaint = refused(
        &output(
            &[
                "--database-url",
                &url,
                "--authentication",
                "required",
                "--tls-certificate",
                &certificate,
                "--tls-key",
                &private,
                "--tls-client-ca",
                &certificate,
                "--jwt-keys",
                &keys,
                "--jwt-issuer",
                ISSUER,
                "--jwt-audience",
                AUDIENCE,
                "--grant",
                "jwt:till=read",
                "--grant",
                "till=read",
            ],
            &[],
        )
        .await,
    );
    assert!(
        complaint.contains("`certificate:` or `jwt:`"),
        "{complaint}"
    );
    let of_certificates = JwtServer::with(dir, &keys, |command| {
        command.args(["--grant", "certificate:counter=read"]);
    });
    let w = of_certificates.await;
    let denied = expect_error(w.list(&key.token("counter")).await);
    assert_eq!(denied.code, Code::PermissionDenied);
    w.list(&key.token("till")).await.expect("known");
}

/// Calls `CheckAccess` with an empty message.
async fn check(w: &JwtServer, token: &str) -> RawResponse {
    let rpc = "/groups.v1.AccessService/CheckAccess";
    send(&w.channel, rpc, with(Vec::new(), token)).await
}

#[tokio::test]
async fn callers_with_different_credential_kinds_have_separate_limits() {
    let key = Key::new("ec", "ES256");
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("keys.json");
    fs::write(&path, set(&[&key])).expect("written");
    let keys = path.display().to_string();
    let limited = JwtServer::with(dir, &keys, |command| {
        command.args(["--max-rate", "10"]);
    });
    let w = limited.await;
    let create = ["token", "create", "counter", "--permissions", "read"];
    let url = database(w.dir.path());
    let created = output(&[&create[..], &["--database-url", &url]].concat(), &[]).await;
    assert!(created.status.success(), "{created:?}");
    let token = String::from_utf8(created.stdout).expect("text");
    // A JWT with the same name has no grant, and exhausts its own rate limit.
    let jwt = key.token("counter");
    while expect_error(w.list(&jwt).await).reason != "RATE_LIMITED" {}
    w.list(token.trim_end()).await.expect("a limit of its own");
}
