//! The number of database round trips per call: counted in protocol messages, so that neither timing nor packet
//! boundaries matter.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use group_service::{
    pb,
    store::{Location, Settings},
};
use sea_orm::DbBackend;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use crate::{
    group::create,
    harness::{Database, TestServer, engine, print_uncaptured},
};

#[tokio::test]
async fn database_round_trips_per_call_are_bounded() {
    // (RPC, maximum on PostgreSQL, maximum on MariaDB and MySQL)
    let limits = [
        ("CreateGroup", 6, 8),
        ("ListRolesInGroup", 2, 2),
        // Two to load the cache; one without a cache.
        ("GetGroup", 2, 2),
    ];
    if engine() == DbBackend::Sqlite {
        return;
    }
    let database = Arc::new(Database::create().await);
    let (login, rest) = database.url().rsplit_once('@').expect("a login");
    let (server, name) = rest.split_once('/').expect("a database");
    let proxy = Proxy::start(server.parse().expect("an address")).await;
    // Unencrypted, so that the proxy can parse it.
    let parameters = if engine() == DbBackend::Postgres {
        "sslmode=disable"
    } else {
        "ssl-mode=DISABLED"
    };
    let separator = if name.contains('?') { '&' } else { '?' };
    let url = format!("{login}@{}/{name}{separator}{parameters}", proxy.address);
    let settings = Settings {
        // One for writes and one for reads, so that statements are prepared early on both.
        connections: 2,
        ..Settings::new(Location::parse(&url).expect("a URL"))
    };
    let test_server = TestServer::with(database.clone(), settings).await;
    let roles = [
        test_server.role("A").await.id,
        test_server.role("B").await.id,
        test_server.role("C").await.id,
    ];
    let roles: Vec<_> = roles.iter().map(String::as_str).collect();
    let mut counts = [usize::MAX; 3];
    // A statement is prepared once per connection, and the pool may open another one: the minimum of several calls
    // is what a call itself needs.
    for round in 0..40 {
        let mut groups = test_server.groups.clone();
        let before = proxy.requests();
        let created = groups
            .create_group(create(&format!("Team {round}"), &roles))
            .await;
        counts[0] = counts[0].min(proxy.requests() - before);
        let group_id = created
            .expect("created")
            .into_inner()
            .group
            .expect("a group")
            .id;

        let request = pb::ListRolesInGroupRequest {
            group_id: group_id.clone(),
            ..Default::default()
        };
        let before = proxy.requests();
        groups.list_roles_in_group(request).await.expect("listed");
        counts[1] = counts[1].min(proxy.requests() - before);

        let request = pb::GetGroupRequest {
            group_id,
            ..Default::default()
        };
        let before = proxy.requests();
        groups.get_group(request).await.expect("got");
        counts[2] = counts[2].min(proxy.requests() - before);
    }
    print_uncaptured(&format!(
        "round trips on {:?}: {counts:?} of {limits:?}",
        engine()
    ));
    for ((rpc, postgres, mysql), count) in limits.into_iter().zip(counts) {
        let most = if engine() == DbBackend::Postgres {
            postgres
        } else {
            mysql
        };
        assert!((1..=most).contains(&count), "{rpc} takes {count}");
    }
}

/// A proxy in front of the database server that counts requests.
struct Proxy {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
}

impl Proxy {
    async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = requests.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server)
                    .await
                    .expect("the server accepts");
                tokio::spawn(pass(client, server, counter.clone()));
            }
        });
        Self { address, requests }
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

/// Forwards both directions. Requests are counted before they are forwarded, so that a finished call has been
/// counted completely.
async fn pass(client: TcpStream, server: TcpStream, requests: Arc<AtomicUsize>) {
    client.set_nodelay(true).expect("set");
    server.set_nodelay(true).expect("set");
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    let mut messages = Messages::default();
    let mut bytes = vec![0; 65536];
    while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
        requests.fetch_add(messages.requests(&bytes[..count]), Ordering::SeqCst);
        if to_server.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

/// Parses the messages of one connection, independently of packet boundaries.
#[derive(Default)]
struct Messages {
    /// Received bytes of an incomplete message.
    pending: Vec<u8>,
    /// Whether PostgreSQL's start-up message, which has no type byte, has been received.
    begun: bool,
    /// Whether the connection has set an isolation level: connections for calls do so first, those of the health
    /// probe and others don't.
    of_calls: bool,
    /// Whether there have been messages since PostgreSQL's last Sync.
    asks: bool,
}

impl Messages {
    /// Counts the requests of calls that are completed by these bytes.
    fn requests(&mut self, bytes: &[u8]) -> usize {
        self.pending.extend_from_slice(bytes);
        let mut requests = 0;
        while let Some(message) = self.next() {
            let is_request = if engine() == DbBackend::Postgres {
                self.is_request_to_postgres(&message)
            } else {
                is_request_to_mysql(&message)
            };
            requests += usize::from(is_request && self.of_calls);
            let text = String::from_utf8_lossy(&message).to_lowercase();
            self.of_calls |= text.contains("isolation");
        }
        requests
    }

    /// The next complete message.
    fn next(&mut self) -> Option<Vec<u8>> {
        let bytes = &self.pending;
        let length = if engine() == DbBackend::Postgres {
            // The type byte, if there is one, and the length, which includes its own four bytes.
            let tag = usize::from(self.begun);
            let length = bytes.get(tag..tag + 4)?.try_into().expect("four bytes");
            tag + u32::from_be_bytes(length) as usize
        } else {
            // The payload length in three bytes, and the sequence number.
            let header = bytes.get(..4)?;
            4 + u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize
        };
        (bytes.len() >= length).then(|| self.pending.drain(..length).collect())
    }

    /// Whether the message is a request that PostgreSQL responds to: a simple query, or the Sync after other
    /// messages. A Sync alone is the pool's connection check.
    fn is_request_to_postgres(&mut self, message: &[u8]) -> bool {
        if !std::mem::replace(&mut self.begun, true) {
            return false;
        }
        match message[0] {
            b'Q' => true,
            b'S' => std::mem::take(&mut self.asks),
            _ => {
                self.asks = true;
                false
            }
        }
    }
}

/// Whether the packet is the first one of a command that MariaDB responds to, except the pool's connection check.
fn is_request_to_mysql(packet: &[u8]) -> bool {
    const QUIT: u8 = 0x01;
    const PING: u8 = 0x0e;
    const CLOSE_STATEMENT: u8 = 0x19;
    packet[3] == 0 && !matches!(packet.get(4), None | Some(&(QUIT | PING | CLOSE_STATEMENT)))
}
