//! How often a call goes to the database and back, counted on the wire.

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
    harness::{Database, World, engine, say},
};

/// What PostgreSQL is asked when a connection goes back to the pool, behind the answer to the call.
const SYNC: &[u8] = &[b'S', 0, 0, 0, 4];
/// The same of MariaDB: a ping.
const PING: &[u8] = &[1, 0, 0, 0, 14];

#[tokio::test]
async fn a_call_goes_to_the_database_a_few_times_only() {
    // (RPC, most on PostgreSQL, most on MariaDB and MySQL)
    let limits = [
        ("CreateGroup", 6, 8),
        ("ListRolesInGroup", 2, 2),
        // Read into memory in two; in one where nothing is kept.
        ("GetGroup", 2, 2),
    ];
    if engine() == DbBackend::Sqlite {
        return;
    }
    let database = Arc::new(Database::create().await);
    let (login, rest) = database.url().rsplit_once('@').expect("a login");
    let (server, name) = rest.split_once('/').expect("a database");
    let proxy = Proxy::start(server.parse().expect("an address")).await;
    let url = format!("{login}@{}/{name}", proxy.address);
    let settings = Settings {
        // One to write through and one to read through: both have seen the statements before.
        connections: 2,
        ..Settings::new(Location::parse(&url).expect("a URL"))
    };
    let world = World::with(database.clone(), settings).await;
    let roles = [
        world.role("A").await.id,
        world.role("B").await.id,
        world.role("C").await.id,
    ];
    let roles: Vec<_> = roles.iter().map(String::as_str).collect();
    let mut counts = [usize::MAX; 3];
    // The probe of health goes the same way: the least of several is what the call itself takes.
    for round in 0..40 {
        let mut groups = world.groups.clone();
        let before = proxy.flights();
        let created = groups
            .create_group(create(&format!("Team {round}"), &roles))
            .await;
        counts[0] = counts[0].min(proxy.flights() - before);
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
        let before = proxy.flights();
        groups.list_roles_in_group(request).await.expect("listed");
        counts[1] = counts[1].min(proxy.flights() - before);

        let request = pb::GetGroupRequest {
            group_id,
            ..Default::default()
        };
        let before = proxy.flights();
        groups.get_group(request).await.expect("got");
        counts[2] = counts[2].min(proxy.flights() - before);
    }
    say(&format!(
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

/// Counts what goes to the server.
struct Proxy {
    address: SocketAddr,
    flights: Arc<AtomicUsize>,
}

impl Proxy {
    async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let flights = Arc::new(AtomicUsize::new(0));
        let counter = flights.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(server)
                    .await
                    .expect("the server accepts");
                tokio::spawn(pass(client, server, counter.clone()));
            }
        });
        Self { address, flights }
    }

    fn flights(&self) -> usize {
        self.flights.load(Ordering::SeqCst)
    }
}

/// Whatever the client sends before it hears from the server is one flight.
async fn pass(client: TcpStream, server: TcpStream, flights: Arc<AtomicUsize>) {
    client.set_nodelay(true).expect("set");
    server.set_nodelay(true).expect("set");
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let heard = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let hears = heard.clone();
    tokio::spawn(async move {
        let mut bytes = vec![0; 65536];
        while let Ok(count @ 1..) = from_server.read(&mut bytes).await {
            hears.store(true, Ordering::SeqCst);
            if to_client.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    });
    let mut bytes = vec![0; 65536];
    while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
        let sent = &bytes[..count];
        if heard.swap(false, Ordering::SeqCst) && sent != SYNC && sent != PING {
            flights.fetch_add(1, Ordering::SeqCst);
        }
        if to_server.write_all(sent).await.is_err() {
            return;
        }
    }
}
