//! Denial-of-service attacks while well-behaved callers make calls: no single attacker can make the server unavailable.

pub(crate) mod attacks;

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use group_service::pb::{
    self, access_service_client::AccessServiceClient, group_service_client::GroupServiceClient,
    role_service_client::RoleServiceClient, user_service_client::UserServiceClient,
};
use tokio::time::sleep;
use tonic::{Code, Request, transport::Channel};

use self::attacks::Attack;
use crate::{
    auth::with,
    caller_limits::{revoke, start_with_authentication, token},
    harness::{
        Database, Process, binary_with_ulimit, print_uncaptured, servers::Postgres, skip_test,
    },
    limits::{metric, until},
    slow_reads::wait_until_accepted,
};

/// Duration of each attack.
const TIME: Duration = Duration::from_secs(1);
/// Pause after each burst. Other tests with timeouts run concurrently and need processor time; the benchmark runs
/// the attacks without a pause.
const ATTACK_INTERVAL: Duration = Duration::from_millis(5);
/// Upper bound of the server's memory under any attack, in bytes.
const MEMORY: u64 = 512 << 20;

/// Maximum number of rounds until memory must be stable.
const ROUNDS: usize = 6;

/// Whether memory grew by at most 5 % in the last round of attacks.
fn memory_is_stable(bytes: &[u64]) -> bool {
    matches!(bytes, [.., before, last] if *last <= before + before / 20)
}

/// Resident memory of a process, in bytes.
fn memory(server: &Process) -> u64 {
    status(server, "VmRSS:")
}

/// Peak resident memory of a process so far, in bytes.
pub(crate) fn peak_memory(server: &Process) -> u64 {
    status(server, "VmHWM:")
}

fn status(server: &Process, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.pid()));
    let status = status.expect("the process runs");
    let line = status.lines().find(|line| line.starts_with(name));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.expect("a size") << 10
}

fn descriptors(server: &Process) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", server.pid()));
    open.expect("the process runs").count()
}

/// Reads and writes until `stop` is set; none of its calls may fail. With a token it reconnects after every 10
/// rounds, as authenticated callers must be able to.
async fn run_well_behaved_caller(
    server: &Process,
    token: Option<&str>,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
) {
    let mut channel = server.connect().await;
    while !stop.load(Ordering::Relaxed) {
        let number = done.fetch_add(1, Ordering::Relaxed);
        if token.is_some() && number.is_multiple_of(10) {
            channel = server.connect().await;
        }
        let mut access = AccessServiceClient::new(channel.clone());
        let mut roles = RoleServiceClient::new(channel.clone());
        let question = pb::CheckAccessRequest {
            user_id: crate::harness::unknown_id(),
            bundle: "a".into(),
            controller: "b".into(),
            action: "c".into(),
            ..Default::default()
        };
        let answer = access.check_access(request(question, token)).await;
        answer.expect("answered");
        let role = pb::CreateRoleRequest {
            name: format!("role {number}"),
            ..Default::default()
        };
        let created = roles.create_role(request(role, token)).await;
        created.expect("created");
        sleep(Duration::from_millis(2)).await;
    }
}

fn request<T>(message: T, token: Option<&str>) -> Request<T> {
    match token {
        Some(token) => with(message, token),
        None => Request::new(message),
    }
}

async fn run_attacks(
    attack: Attack,
    server: &Process,
    token: Option<&str>,
    done: &Arc<AtomicU64>,
) -> u64 {
    let stop = Arc::new(AtomicBool::new(false));
    let before = done.load(Ordering::Relaxed);
    let mut most = 0;
    let watched = async {
        while !stop.load(Ordering::Relaxed) {
            most = most.max(memory(server));
            sleep(Duration::from_millis(20)).await;
        }
    };
    let attacked = async {
        attack
            .attack_repeatedly(server.address, TIME, ATTACK_INTERVAL, None)
            .await;
        stop.store(true, Ordering::Relaxed);
    };
    let run_well_behaved_caller =
        run_well_behaved_caller(server, token, stop.clone(), done.clone());
    tokio::join!(run_well_behaved_caller, attacked, watched);
    let served = done.load(Ordering::Relaxed) - before;
    assert!(served > 0, "nobody was served during {attack:?}");
    until(server, "group_service_connections", |there| there <= 1.0).await;
    until(server, "group_service_calls_in_flight", |calls| {
        calls == 0.0
    })
    .await;
    until(server, "group_service_in_flight_message_bytes", |bytes| {
        bytes == 0.0
    })
    .await;
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn server_survives_every_attack_and_releases_its_resources() {
    let database = Database::create().await;
    // The limit of open files is below the connection limit: connections must leave descriptors for the database.
    let mut command = binary_with_ulimit("-n 1024");
    command
        .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
        .args(["--log", "warn", "--database-url", database.url()])
        .args(["--compression", "gzip"])
        // As in deploy/: otherwise glibc doesn't return freed memory to the system, and it can't be measured.
        .env("MALLOC_MMAP_THRESHOLD_", "131072");
    let server = Process::spawn(command).await;
    let mut users = UserServiceClient::new(server.connect().await);
    for number in 0..200 {
        let [username, first_name, last_name] = attacks::expensive_name(number);
        let user = pb::CreateUserRequest {
            username,
            first_name,
            last_name,
            ..Default::default()
        };
        users.create_user(user).await.expect("created");
    }
    drop(users);
    let done = Arc::new(AtomicU64::new(0));
    // A leak grows with each round; caches and memory that is reused don't.
    let mut bytes = Vec::new();
    let mut open = Vec::new();
    while !memory_is_stable(&bytes) {
        for attack in attacks::ALL {
            let most = run_attacks(attack, &server, None, &done).await;
            assert!(most < MEMORY, "{attack:?} takes {most} bytes");
        }
        bytes.push(memory(&server));
        open.push(descriptors(&server));
        assert!(bytes.len() <= ROUNDS, "{bytes:?} bytes after each round");
    }
    let few = open[0] + open[0] / 5;
    assert!(open.iter().all(|open| *open <= few), "{open:?} descriptors");
    assert_eq!(
        metric(&server, "group_service_calls_in_flight").await,
        Some(0.0)
    );
    let log = server.stop().await;
    let errors: Vec<_> = log
        .lines()
        .filter(|line| line.contains(" ERROR "))
        .collect();
    let first = errors.first();
    assert!(
        first.is_none(),
        "{} ERROR log lines caused by callers: {first:?}",
        errors.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unauthenticated_attacks_do_not_affect_authenticated_callers() {
    let database = Database::create().await;
    let mut command = binary_with_ulimit("-n 1024");
    command
        .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
        .args(["--log", "warn", "--authentication", "required"])
        .args(["--database-url", database.url()]);
    let server = Process::spawn(command).await;
    let token = token(&database, "good", "check,write").await;
    let done = Arc::new(AtomicU64::new(0));
    for attack in attacks::UNAUTHENTICATED {
        let most = run_attacks(attack, &server, Some(&token), &done).await;
        assert!(most < MEMORY, "{attack:?} takes {most} bytes");
    }
    server.stop().await;
}

/// Waits until calls with a token are rejected, because it is revoked or because the instance can't read the tokens.
async fn wait_until_revoked(channel: &Channel, token: &str) {
    let mut groups = GroupServiceClient::new(channel.clone());
    let refused = async {
        loop {
            let request = with(pb::GetGroupRequest::default(), token);
            let status = groups.get_group(request).await.expect_err("it names none");
            if [Code::Unauthenticated, Code::Unavailable].contains(&status.code()) {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(30), refused).await;
    refused.expect("revoked");
}

#[tokio::test(flavor = "multi_thread")]
async fn token_revocation_takes_effect_on_all_instances_under_attack() {
    let postgres = match Postgres::start(&[]).await {
        Ok(postgres) => postgres,
        Err(why) => return skip_test("revocation during attacks", &why),
    };
    postgres.query("CREATE DATABASE directory").await;
    let database = Database::with_url(&postgres.url("directory"));
    let servers = [
        start_with_authentication(&database, &["--compression", "gzip"]).await,
        start_with_authentication(&database, &["--compression", "gzip"]).await,
    ];
    let attacker = token(&database, "attacker", "all").await;
    let mut longest = Duration::ZERO;
    for attack in attacks::ALL {
        let name = format!("victim of {attack:?}");
        let victim = token(&database, &name, "all").await;
        let attacked = servers.each_ref().map(|server| {
            let (address, attacker) = (server.address, attacker.clone());
            tokio::spawn(async move {
                attack
                    .attack_repeatedly(address, 60 * TIME, ATTACK_INTERVAL, Some(&attacker))
                    .await;
            })
        });
        // Connect before the revocation: a flood of connections may keep new ones out.
        let mut channels = Vec::new();
        for server in &servers {
            let channel = server.connect().await;
            wait_until_accepted(&channel, &victim, true).await;
            channels.push(channel);
        }
        revoke(&database, &name).await;
        let revoked = Instant::now();
        for channel in &channels {
            wait_until_revoked(channel, &victim).await;
        }
        longest = longest.max(revoked.elapsed());
        for attacked in attacked {
            assert!(
                !attacked.is_finished(),
                "{attack:?} ended before the token was rejected"
            );
            attacked.abort();
        }
    }
    print_uncaptured(&format!(
        "a token was refused by two instances {longest:?} at most after it was revoked, whatever the attack"
    ));
    for server in servers {
        server.stop().await;
    }
}
