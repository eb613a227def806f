//! Any text as credentials: the header as it comes, and the token in it, one of our own or a JWT.
#![no_main]

use group_service::{domain::Token, fuzzing};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Lines are headers: there may be several, and only one is taken.
    let mut headers = HeaderMap::new();
    let mut values = data.split(|byte| *byte == b'\n').take(4);
    for value in values.by_ref() {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(AUTHORIZATION, value);
        }
    }
    if let Some(bearer) = fuzzing::bearer(&headers) {
        assert_eq!(headers.len(), 1, "more than one");
        token(bearer);
    }
    token(&String::from_utf8_lossy(data));
});

/// A token of our own is written in one way only, shows no secret, and is its own and nobody else's.
fn token(text: &str) {
    let Some(token) = Token::parse(text) else {
        return;
    };
    assert_eq!(token.reveal(), text);
    assert!(!format!("{token:?}").contains(&text[26..]));
    let digest = token.digest();
    assert!(digest.is_of(&token));
    let other = Token::generate().expect("random bits");
    assert!(!digest.is_of(&other));
}
