//! Connections of Prometheus and of probes. Their number is limited, so that they can't take the file descriptors that
//! calls and the database need.

use std::time::Duration;

use axum::{Router, body::Body};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tower::Service;

use crate::listen::{Connection, ConnectionLimits, Connections, MAX_METRICS_CONNECTIONS, accept};

/// Timeout of a request's headers, measured from the end of the previous request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves requests for as long as it is polled. If there are too many connections, the oldest one of the address with
/// the most is closed, so that idle connections can't keep probes out.
pub(super) async fn serve(listener: TcpListener, routes: Router) {
    // Unlimited here: `serve` limits the number of connections by closing old ones.
    let connections = Connections::new(ConnectionLimits {
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
        let Ok((guard, closing)) = connections.register(peer.ip()) else {
            continue;
        };
        let connection = TokioIo::new(Connection::plain(stream, guard, closing));
        let routes = routes.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            // A router is always ready.
            routes.clone().call(request.map(Body::new))
        });
        tokio::spawn(async move {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIMEOUT)
                .serve_connection(connection, service)
                .await;
            if let Err(error) = served {
                tracing::debug!(%error, "metrics port connection failed");
            }
        });
    }
}
