//! The health status of the process and of each service.

use std::{io, thread, time::Duration};

use tokio::{runtime::Handle, sync::watch, time::sleep};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::store::Db;

/// The services with a health status of their own. The empty name stands for the whole server.
const SERVICES: [&str; 6] = [
    "",
    "groups.v1.AccessService",
    "groups.v1.ChangeService",
    "groups.v1.GroupService",
    "groups.v1.RoleService",
    "groups.v1.UserService",
];
/// How often the database is probed, for its health and its latest revision.
const PROBE_INTERVAL: Duration = Duration::from_millis(250);
/// The service name for the health of the process. It doesn't depend on the database, whose failure a restart wouldn't
/// fix.
const LIVENESS: &str = "liveness";
/// How often the runtime's worker threads are checked.
const WORKER_INTERVAL: Duration = Duration::from_secs(1);
/// A worker thread is stuck if it makes no progress between this many checks. Checks are counted rather than time,
/// because a process that was suspended isn't stuck.
const STUCK_CHECKS: u32 = 10;

/// Sets the health of every service from that of the database and of the process.
pub(super) async fn monitor_database(
    db: &Db,
    health: &HealthReporter,
    ready: &watch::Sender<bool>,
    mut alive: watch::Receiver<bool>,
) {
    loop {
        set_health(health, ready, true).await;
        let stuck = loop {
            let faulted = tokio::select! {
                Ok(_) = alive.wait_for(|alive| !alive) => break true,
                () = db.wait_for_fault() => true,
                () = db.wait_for_revision_waiter() => false,
                () = sleep(PROBE_INTERVAL) => false,
            };
            if !db.is_readable().await || (faulted && !db.is_writable().await) {
                break false;
            }
        };
        set_health(health, ready, false).await;
        if !stuck {
            tracing::error!("database unavailable: not serving until it accepts writes again");
        }
        let _ = alive.wait_for(|alive| *alive).await;
        while !(db.is_readable().await && db.is_writable().await) {
            sleep(PROBE_INTERVAL).await;
        }
        if !stuck {
            tracing::info!("database available again: serving");
        }
    }
}

/// Monitors the runtime's worker threads: the process is alive while each of them makes progress. A thread that is
/// blocked, such as by blocking I/O, delays the calls that it has begun, though other threads still serve calls. Ends
/// when all receivers are dropped.
///
/// # Errors
/// The monitoring thread can't be started.
pub(super) fn spawn_worker_monitor(health: HealthReporter) -> io::Result<watch::Receiver<bool>> {
    let runtime = Handle::current();
    let (alive, is_alive) = watch::channel(true);
    // A thread outside of the runtime, whose timers may have stopped.
    thread::Builder::new()
        .name("liveness".to_owned())
        .spawn(move || monitor_workers(&runtime, &health, &alive))?;
    Ok(is_alive)
}

fn monitor_workers(runtime: &Handle, health: &HealthReporter, alive: &watch::Sender<bool>) {
    let metrics = runtime.metrics();
    // The park count is odd while the thread is parked; the busy duration grows while it runs tasks.
    let look = |worker| {
        let parks = metrics.worker_park_unpark_count(worker);
        (parks, metrics.worker_total_busy_duration(worker))
    };
    let mut seen: Vec<_> = (0..metrics.num_workers())
        .map(|worker| (look(worker), 0))
        .collect();
    while !alive.is_closed() {
        thread::sleep(WORKER_INTERVAL);
        // Wakes an idle thread, which takes over polling I/O and timers if the stuck thread did that.
        runtime.spawn(async {});
        for (worker, (last, stalled_checks)) in seen.iter_mut().enumerate() {
            let now = look(worker);
            let parked = now.0 % 2 == 1;
            *stalled_checks = if parked || now != *last {
                0
            } else {
                *stalled_checks + 1
            };
            *last = now;
        }
        let stuck = seen
            .iter()
            .any(|(_, stalled_checks)| *stalled_checks >= STUCK_CHECKS);
        let was_alive = alive.send_replace(!stuck);
        if was_alive != stuck {
            continue;
        }
        let health = health.clone();
        runtime.spawn(async move { set_liveness(&health, !stuck).await });
        if stuck {
            tracing::error!(
                "worker thread stuck: liveness fails until it makes progress; restart the process if it does not recover"
            );
        } else {
            tracing::info!("worker thread recovered: liveness restored");
        }
    }
}

/// Sets the health of the process.
pub(super) async fn set_liveness(health: &HealthReporter, alive: bool) {
    health.set_service_status(LIVENESS, status(alive)).await;
}

fn status(serving: bool) -> ServingStatus {
    if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    }
}

/// Sets the health of every service, and whether the server is ready.
pub(super) async fn set_health(
    health: &HealthReporter,
    ready: &watch::Sender<bool>,
    serving: bool,
) {
    ready.send_replace(serving);
    for service in SERVICES {
        health.set_service_status(service, status(serving)).await;
    }
}

/// Ends the streams of health watchers.
pub(super) async fn end_health_watches(mut health: HealthReporter) {
    for service in SERVICES.into_iter().chain([LIVENESS]) {
        health.clear_service_status(service).await;
    }
}
