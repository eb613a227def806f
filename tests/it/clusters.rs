//! Crashes and failovers of database servers and clusters that the tests start themselves.

mod galera;
pub(crate) mod load;
mod responses;
mod standby;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use group_service::store::{Location, Settings};
use tonic::Code;
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_client::HealthClient},
};

use crate::harness::{
    Database, TestServer, print_uncaptured,
    servers::{MariaDb, Postgres},
    skip_test,
};
use load::Load;

/// The number of times that a database is killed.
const KILLS: usize = 10;

/// Starts a server of this type if it is installed, and checks that an instance survives its crashes.
macro_rules! test_crash_recovery {
    ($name:literal, $server:ty) => {
        let mut server = match <$server>::start(&[]).await {
            Ok(server) => server,
            Err(why) => return skip_test(concat!("a ", $name, " that is killed"), &why),
        };
        server.query("CREATE DATABASE directory").await;
        let url = server.url("directory");
        let switch = async |on: bool| {
            if on {
                server.restart().await;
            } else {
                server.kill().await;
            }
        };
        assert_survives_restarts($name, &url, switch).await;
    };
}

/// Starts an instance on the database with this URL.
pub(crate) async fn instance(url: &str, replica: Option<&str>) -> TestServer {
    let mut settings = Settings::new(Location::parse(url).expect("a URL"));
    settings.replica = replica.map(|url| Location::parse(url).expect("a URL"));
    TestServer::with(Arc::new(Database::with_url(url)), settings).await
}

/// Waits until the instance reports this health status.
pub(crate) async fn until(test_server: &TestServer, wanted: ServingStatus) {
    let mut health = HealthClient::new(test_server.channel.clone());
    let watch = health.watch(HealthCheckRequest::default()).await;
    let mut watch = watch.expect("watched").into_inner();
    let wait = async {
        while watch
            .message()
            .await
            .expect("watched")
            .expect("goes on")
            .status
            != wanted as i32
        {}
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), wait).await;
    waited.unwrap_or_else(|_| panic!("never {wanted:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_crash_loses_no_acknowledged_write() {
    test_crash_recovery!("PostgreSQL", Postgres);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadb_crash_loses_no_acknowledged_write() {
    test_crash_recovery!("MariaDB", MariaDb);
}

/// Kills and restarts the server under load, and checks that no acknowledged write is lost.
async fn assert_survives_restarts(name: &str, url: &str, mut switch: impl AsyncFnMut(bool)) {
    let test_server = instance(url, None).await;
    let load = Load::begin(
        vec![test_server.channel.clone()],
        16,
        8,
        &[Code::Unavailable],
    )
    .await;
    let mut longest = Duration::ZERO;
    for _ in 0..KILLS {
        load.go_on(100).await;
        switch(false).await;
        until(&test_server, ServingStatus::NotServing).await;
        switch(true).await;
        let accepts = Instant::now();
        until(&test_server, ServingStatus::Serving).await;
        longest = longest.max(accepts.elapsed());
    }
    load.go_on(100).await;
    let done = load.verify().await;
    print_uncaptured(&format!(
        "{name}, killed {KILLS} times: {done}; back at most {longest:.1?} after it accepted connections"
    ));
}
