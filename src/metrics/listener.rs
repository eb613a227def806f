//! Connections of Prometheus and of probes: few, so that they can't take the descriptors of calls and the database.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use crate::listen::{Connection, Connections, Limits, MAX_METRICS_CONNECTIONS, accept};

/// Accepts connections. If there are too many, the oldest is closed: idle ones can't keep probes out.
pub(super) struct Listener {
    listener: TcpListener,
    connections: Connections,
}

impl Listener {
    pub(super) fn new(listener: TcpListener) -> Self {
        // Limited by closing others.
        let connections = Connections::new(Limits {
            connections: u32::MAX,
            per_address: u32::MAX,
            bytes: u64::MAX,
        });
        Self {
            listener,
            connections,
        }
    }
}

impl axum::serve::Listener for Listener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            let (stream, peer) = accept(&self.listener).await;
            if self.connections.count() >= MAX_METRICS_CONNECTIONS {
                self.connections.close_oldest();
            }
            if let Some((counted, closing)) = self.connections.take(peer.ip()) {
                return (Connection::plain(stream, counted, closing), peer);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}
