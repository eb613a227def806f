//! Databases that are killed and come back, and clusters of them: with servers of the tests' own.

mod answers;
mod galera;
pub(crate) mod load;
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
    Database, World, not_run, say,
    servers::{MariaDb, Postgres},
};
use load::Load;

/// How often a database is killed.
const KILLS: usize = 10;

/// Starts a server of this type, if it is installed, and proves that an instance outlives it.
macro_rules! outlives {
    ($name:literal, $server:ty) => {
        let mut server = match <$server>::start(&[]).await {
            Ok(server) => server,
            Err(why) => return not_run(concat!("a ", $name, " that is killed"), &why),
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
        outlives($name, &url, switch).await;
    };
}

/// An instance on the database of this URL.
pub(crate) async fn instance(url: &str, replica: Option<&str>) -> World {
    let mut settings = Settings::new(Location::parse(url).expect("a URL"));
    settings.replica = replica.map(|url| Location::parse(url).expect("a URL"));
    World::with(Arc::new(Database::elsewhere(url)), settings).await
}

/// Waits until the instance says this of its health.
pub(crate) async fn until(world: &World, wanted: ServingStatus) {
    let mut health = HealthClient::new(world.channel.clone());
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
async fn a_postgresql_that_is_killed_loses_nothing() {
    outlives!("PostgreSQL", Postgres);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mariadb_that_is_killed_loses_nothing() {
    outlives!("MariaDB", MariaDb);
}

/// Kills the server under load and starts it again, and proves that nothing is lost.
async fn outlives(name: &str, url: &str, mut switch: impl AsyncFnMut(bool)) {
    let world = instance(url, None).await;
    let load = Load::begin(vec![world.channel.clone()], 16, 8, &[Code::Unavailable]).await;
    let mut longest = Duration::ZERO;
    for _ in 0..KILLS {
        load.go_on(100).await;
        switch(false).await;
        until(&world, ServingStatus::NotServing).await;
        switch(true).await;
        let accepts = Instant::now();
        until(&world, ServingStatus::Serving).await;
        longest = longest.max(accepts.elapsed());
    }
    load.go_on(100).await;
    let done = load.prove().await;
    say(&format!(
        "{name}, killed {KILLS} times: {done}; back at most {longest:.1?} after it accepted connections"
    ));
}
