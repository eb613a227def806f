//! What the fuzz targets need of what is nobody else's business: built by `cargo fuzz` only.

use http::HeaderMap;

use crate::{
    domain::{PageToken, Scope},
    grpc,
};

/// A page token with a right tag and anything behind it.
#[must_use]
pub fn page_token(scope: &Scope, payload: &[u8]) -> String {
    PageToken::seal(payload, scope)
}

/// The token of a request.
#[must_use]
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    grpc::bearer(headers)
}
