//! The health that is told of the process and of each service.

use std::time::Duration;

use tokio::sync::watch;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::store::Db;

/// The services whose health is told, beside that of the whole server, which has no name.
const SERVICES: [&str; 6] = [
    "",
    "groups.v1.AccessService",
    "groups.v1.ChangeService",
    "groups.v1.GroupService",
    "groups.v1.RoleService",
    "groups.v1.UserService",
];
/// How often the database's health is looked at, and which revision other instances have brought it to.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// The health of the process, which doesn't follow that of the database: a restart wouldn't help.
const LIVENESS: &str = "liveness";

/// Keeps the health of every service that of the database.
pub(super) async fn follow_database(db: &Db, health: &HealthReporter, ready: &watch::Sender<bool>) {
    health
        .set_service_status(LIVENESS, ServingStatus::Serving)
        .await;
    loop {
        set_health(health, ready, true).await;
        loop {
            let faulted = tokio::select! {
                () = db.faulted() => true,
                () = tokio::time::sleep(PROBE_INTERVAL) => false,
            };
            if !db.is_readable().await || (faulted && !db.is_writable().await) {
                break;
            }
        }
        set_health(health, ready, false).await;
        tracing::error!("the database is unavailable: not serving until it can be written again");
        while !(db.is_readable().await && db.is_writable().await) {
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
        tracing::info!("the database is available again: serving");
    }
}

/// Tells the health of every service, and whether calls are answered.
pub(super) async fn set_health(
    health: &HealthReporter,
    ready: &watch::Sender<bool>,
    serving: bool,
) {
    ready.send_replace(serving);
    let status = if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    for service in SERVICES {
        health.set_service_status(service, status).await;
    }
}

/// Ends the streams of those who watch.
pub(super) async fn end_watches(mut health: HealthReporter) {
    for service in SERVICES.into_iter().chain([LIVENESS]) {
        health.clear_service_status(service).await;
    }
}
