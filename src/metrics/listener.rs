//! Connections of Prometheus and of probes: few, so that they can't take the descriptors of calls and the database.

use std::time::Duration;

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tower::Service;

use crate::listen::{Connection, Connections, Limits, MAX_METRICS_CONNECTIONS, accept};

/// How long the headers of a request may take, from the end of the one before.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers requests as long as it is polled. If there are too many connections, the oldest is closed: idle ones can't
/// keep probes out.
pub(super) async fn serve(listener: TcpListener, routes: Router) {
    // Limited by closing others.
    let connections = Connections::new(Limits {
        connections: u32::MAX,
        per_address: u32::MAX,
        bytes: u64::MAX,
        authentication: false,
    });
    loop {
        let (stream, peer) = accept(&listener).await;
        if connections.count() >= MAX_METRICS_CONNECTIONS {
            connections.close_oldest();
        }
        let Ok((counted, closing)) = connections.take(peer.ip()) else {
            continue;
        };
        let connection = TokioIo::new(Connection::plain(stream, counted, closing));
        let routes = routes.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            // It is always ready.
            routes.clone().call(request.map(Body::new))
        });
        tokio::spawn(async move {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(connection, service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "a connection of the metrics port failed");
            }
        });
    }
}
