//! Any text as credentials: the header as it comes, and the token in it, one of our own or a JWT; and JWTs that are
//! signed as they should be, whatever they say. The first byte says which.
#![no_main]

use std::sync::OnceLock;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use group_service::{
    auth::{JwtAuthenticator, KeySource, PermissionGrant},
    domain::{Permission, Token},
    fuzzing,
};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

const ISSUER: &str = "https://id.test";
const AUDIENCE: &str = "group-service";
const KEY: &str = "k";

/// Who signs, and who is to find out whether that is so.
struct Issuer {
    key: EcdsaKeyPair,
    jwts: JwtAuthenticator,
}

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        Some((0, data)) => signed(data),
        Some((_, data)) => sent(data),
        None => {}
    }
});

/// Lines are headers: there may be several, and only one is taken.
fn sent(data: &[u8]) {
    let mut headers = HeaderMap::new();
    for value in data.split(|byte| *byte == b'\n').take(4) {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(AUTHORIZATION, value);
        }
    }
    if let Some(bearer) = fuzzing::bearer(&headers) {
        assert_eq!(headers.len(), 1, "more than one");
        token(bearer);
        forged(bearer);
    }
    let text = String::from_utf8_lossy(data);
    token(&text);
    forged(&text);
}

/// A token of our own is written in one way only, shows no secret, and is its own and nobody else's.
fn token(text: &str) {
    let Some(token) = Token::parse(text) else {
        return;
    };
    assert_eq!(token.reveal(), text);
    assert!(!format!("{token:?}").contains(&text[26..]));
    let digest = token.digest();
    assert!(digest.matches_token(&token));
    let other = Token::generate().expect("random bits");
    assert!(!digest.matches_token(&other));
}

/// Nobody has the key, which is a new one for each run.
fn forged(text: &str) {
    assert!(issuer().jwts.identify(text).is_err(), "forged");
}

/// Signed, it is good only if it says what it must: by another reader of JSON's own values.
fn signed(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == b'\n');
    let (header, claims) = data.split_at(at.unwrap_or(0));
    let claims = claims.strip_prefix(b"\n").unwrap_or(claims);
    let issuer = issuer();
    let parts = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    let message = parts.join(".");
    let signature = issuer.key.sign(&SystemRandom::new(), message.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(signature.expect("signed"));
    let token = format!("{message}.{signature}");
    let Ok(identity) = issuer.jwts.identify(&token) else {
        return;
    };
    let header: Value = serde_json::from_slice(header).expect("a header");
    let claims: Value = serde_json::from_slice(claims).expect("claims");
    assert_eq!(header["alg"], "ES256");
    assert!(header["kid"].is_null() || header["kid"] == KEY, "{header}");
    assert!(header["crit"].is_null(), "{header}");
    assert_eq!(claims["iss"], ISSUER);
    let audience = &claims["aud"];
    let among = audience.as_array().into_iter().flatten();
    assert!(audience == AUDIENCE || among.into_iter().any(|one| one == AUDIENCE));
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).expect("later");
    let now = now.as_secs_f64();
    assert!(claims["exp"].as_f64().expect("a time") > now - 11.0);
    if let Some(from) = claims["nbf"].as_f64() {
        assert!(from < now + 11.0);
    }
    assert_eq!(claims["sub"], identity.caller().as_str());
    assert!(
        identity.has_permission(Permission::Read) && !identity.has_permission(Permission::Write)
    );
}

fn issuer() -> &'static Issuer {
    static ISSUED: OnceLock<Issuer> = OnceLock::new();
    ISSUED.get_or_init(|| {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
        // Behind a byte that says so it is two numbers of 32 bytes each.
        let point = key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..65]].map(|part| URL_SAFE_NO_PAD.encode(part));
        let keys = format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"{KEY}","x":"{x}","y":"{y}"}}]}}"#
        );
        let path = std::env::temp_dir().join(format!("group-service-{}.jwks", std::process::id()));
        std::fs::write(&path, keys).expect("written");
        let grants = [PermissionGrant::parse("*=read").expect("a grant")];
        let jwts = JwtAuthenticator::load(
            KeySource::File(path.clone()),
            ISSUER.to_owned(),
            AUDIENCE.to_owned(),
            None,
            grants.into_iter().collect(),
        );
        let _ = std::fs::remove_file(&path);
        Issuer {
            key,
            jwts: jwts.expect("keys"),
        }
    })
}
