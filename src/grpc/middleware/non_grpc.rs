//! Requests that aren't gRPC: rejected with HTTP status codes, which browsers and other HTTP clients understand.

use std::{error::Error, sync::Arc};

use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use tonic::{Status, body::Body};

/// The status to log and the HTTP response, if the request isn't gRPC over HTTP/2.
///
/// A page of another site can make a browser send a request of any simple content type with the user's client
/// certificate, so such a request is rejected before the caller is authenticated.
pub(super) fn reject_non_grpc(
    request: &http::Request<Body>,
) -> Option<(Status, http::Response<Body>)> {
    let (code, text) = if request.method() != Method::POST {
        let text =
            "405 Method Not Allowed: this port serves gRPC over HTTP/2, whose requests are POST\n";
        (StatusCode::METHOD_NOT_ALLOWED, text)
    } else if !is_grpc(request.headers()) {
        let text = "415 Unsupported Media Type: this port serves gRPC over HTTP/2, whose content type is \
                    application/grpc or application/grpc+proto\n";
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, text)
    } else {
        return None;
    };
    let mut status = Status::invalid_argument("not gRPC");
    let cause: Box<dyn Error + Send + Sync> = text.trim_end().into();
    status.set_source(Arc::from(cause));
    // A response to HEAD has no body.
    let body = match *request.method() {
        Method::HEAD => Body::empty(),
        _ => Body::new(text.to_owned()),
    };
    let mut response = http::Response::new(body);
    *response.status_mut() = code;
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    if code == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    Some((status, response))
}

/// Whether the request has exactly one content type, and it is gRPC's, with any parameters.
fn is_grpc(headers: &HeaderMap) -> bool {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return false;
    };
    let essence = value.as_bytes().split(|byte| *byte == b';').next();
    let essence = essence.unwrap_or_default().trim_ascii();
    ["application/grpc", "application/grpc+proto"]
        .iter()
        .any(|known| essence.eq_ignore_ascii_case(known.as_bytes()))
}
