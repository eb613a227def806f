//! The health that is told of the process and of each service.

use std::{io, thread, time::Duration};

use tokio::{runtime::Handle, sync::watch, time::sleep};
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
/// How often the worker threads of the runtime are looked at.
const WORKER_INTERVAL: Duration = Duration::from_secs(1);
/// A worker thread that doesn't move between so many looks is stuck. Looks are counted rather than time: a process
/// that was stopped for a while isn't stuck.
const STUCK_LOOKS: u32 = 10;

/// Keeps the health of every service that of the database, as long as the process is alive.
pub(super) async fn follow_database(
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
                () = db.faulted() => true,
                () = db.revision_awaited() => false,
                () = sleep(PROBE_INTERVAL) => false,
            };
            if !db.is_readable().await || (faulted && !db.is_writable().await) {
                break false;
            }
        };
        set_health(health, ready, false).await;
        if !stuck {
            tracing::error!(
                "the database is unavailable: not serving until it can be written again"
            );
        }
        let _ = alive.wait_for(|alive| *alive).await;
        while !(db.is_readable().await && db.is_writable().await) {
            sleep(PROBE_INTERVAL).await;
        }
        if !stuck {
            tracing::info!("the database is available again: serving");
        }
    }
}

/// Keeps the health of the process: it is alive while each worker thread of the runtime moves. A thread that is held
/// up, as by input or output that blocks, holds up the calls that it has begun, though others are still answered. Ends
/// when all receivers are dropped.
///
/// # Errors
/// There can't be another thread.
pub(super) fn watch_workers(health: HealthReporter) -> io::Result<watch::Receiver<bool>> {
    let runtime = Handle::current();
    let (alive, is_alive) = watch::channel(true);
    // Outside of the runtime, whose timers may stand still.
    thread::Builder::new()
        .name("liveness".to_owned())
        .spawn(move || look_at_workers(&runtime, &health, &alive))?;
    Ok(is_alive)
}

fn look_at_workers(runtime: &Handle, health: &HealthReporter, alive: &watch::Sender<bool>) {
    let metrics = runtime.metrics();
    // The first is odd while the thread is parked; the second grows while it takes up tasks.
    let look = |worker| {
        let parks = metrics.worker_park_unpark_count(worker);
        (parks, metrics.worker_total_busy_duration(worker))
    };
    let mut seen: Vec<_> = (0..metrics.num_workers())
        .map(|worker| (look(worker), 0))
        .collect();
    while !alive.is_closed() {
        thread::sleep(WORKER_INTERVAL);
        // Wakes an idle thread, which then waits for input, output and timers where the stuck one did.
        runtime.spawn(async {});
        for (worker, (last, looks)) in seen.iter_mut().enumerate() {
            let now = look(worker);
            let parked = now.0 % 2 == 1;
            *looks = if parked || now != *last {
                0
            } else {
                *looks + 1
            };
            *last = now;
        }
        let stuck = seen.iter().any(|(_, looks)| *looks >= STUCK_LOOKS);
        let was_alive = alive.send_replace(!stuck);
        if was_alive != stuck {
            continue;
        }
        let health = health.clone();
        runtime.spawn(async move { set_liveness(&health, !stuck).await });
        if stuck {
            tracing::error!(
                "a worker thread is stuck: not alive until it moves; restart the process if it doesn't"
            );
        } else {
            tracing::info!("the worker thread moves again: alive");
        }
    }
}

/// Tells whether the process is alive.
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

/// Tells the health of every service, and whether calls are answered.
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

/// Ends the streams of those who watch.
pub(super) async fn end_watches(mut health: HealthReporter) {
    for service in SERVICES.into_iter().chain([LIVENESS]) {
        health.clear_service_status(service).await;
    }
}
