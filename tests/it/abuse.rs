//! Those who mean harm, while others call: nobody can bring it down alone.

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
    callers::{guarded, revoke, token},
    harness::{Database, Process, binary_under, not_run, say, servers::Postgres},
    limits::{metric, until},
    slow_reads::known,
};

/// How long each attack goes on.
const TIME: Duration = Duration::from_secs(1);
/// Other tests go on beside this one, with timeouts: attackers leave them some of the processor. At full rate they are
/// in the benchmark.
const PACE: Duration = Duration::from_millis(5);
/// More than a server may take, whatever is done to it.
const MEMORY: u64 = 512 << 20;

/// By then, what all attacks together take has been taken.
const ROUNDS: usize = 6;

/// Whether the last round of attacks left no more memory taken than the one before.
fn has_settled(bytes: &[u64]) -> bool {
    matches!(bytes, [.., before, last] if *last <= before + before / 20)
}

/// What a process has in memory, in bytes.
fn memory(server: &Process) -> u64 {
    status(server, "VmRSS:")
}

/// The most that a process has had in memory so far, in bytes.
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

/// Reads and writes until it is told to stop; none of its calls may fail. With a token it connects again now and then.
async fn good(server: &Process, token: Option<&str>, stop: Arc<AtomicBool>, done: Arc<AtomicU64>) {
    let mut channel = server.connect().await;
    while !stop.load(Ordering::Relaxed) {
        let number = done.fetch_add(1, Ordering::Relaxed);
        if token.is_some() && number.is_multiple_of(10) {
            channel = server.connect().await;
        }
        let mut access = AccessServiceClient::new(channel.clone());
        let mut roles = RoleServiceClient::new(channel.clone());
        let question = pb::CheckAccessRequest {
            user_id: crate::harness::id(),
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

async fn endure(
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
        attack.go_on(server.address, TIME, PACE, None).await;
        stop.store(true, Ordering::Relaxed);
    };
    let good = good(server, token, stop.clone(), done.clone());
    tokio::join!(good, attacked, watched);
    let served = done.load(Ordering::Relaxed) - before;
    assert!(served > 0, "nobody was served during {attack:?}");
    until(server, "group_service_connections", |there| there <= 1.0).await;
    until(server, "group_service_calls_in_flight", |calls| {
        calls == 0.0
    })
    .await;
    until(server, "group_service_messages_in_hand_bytes", |bytes| {
        bytes == 0.0
    })
    .await;
    most
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_brings_it_down_alone_and_nothing_is_left_behind() {
    let database = Database::create().await;
    // Fewer open files than there may be connections: those must leave what calls need.
    let mut command = binary_under("-n 1024");
    command
        .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
        .args(["--log", "warn", "--database-url", database.url()])
        .args(["--compression", "gzip"])
        // As in deploy: what is given back is seen only then.
        .env("MALLOC_MMAP_THRESHOLD_", "131072");
    let server = Process::spawn(command).await;
    let mut users = UserServiceClient::new(server.connect().await);
    for number in 0..200 {
        let [username, first_name, last_name] = attacks::run(number);
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
    // What is left behind each time grows without end; what is taken once, or kept to be used again, doesn't.
    let mut bytes = Vec::new();
    let mut open = Vec::new();
    while !has_settled(&bytes) {
        for attack in attacks::ALL {
            let most = endure(attack, &server, None, &done).await;
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
        "{} errors that callers make: {first:?}",
        errors.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_do_not_notice_attacks_without_credentials() {
    let database = Database::create().await;
    let mut command = binary_under("-n 1024");
    command
        .args(["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"])
        .args(["--log", "warn", "--authentication", "required"])
        .args(["--database-url", database.url()]);
    let server = Process::spawn(command).await;
    let token = token(&database, "good", "check,write").await;
    let done = Arc::new(AtomicU64::new(0));
    for attack in attacks::UNAUTHENTICATED {
        let most = endure(attack, &server, Some(&token), &done).await;
        assert!(most < MEMORY, "{attack:?} takes {most} bytes");
    }
    server.stop().await;
}

/// Waits until calls with a token are refused: it is known to be revoked, or the instance can't read the tokens.
async fn refused(channel: &Channel, token: &str) {
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
async fn a_token_is_revoked_on_two_instances_during_every_attack() {
    let postgres = match Postgres::start(&[]).await {
        Ok(postgres) => postgres,
        Err(why) => return not_run("revocation during attacks", &why),
    };
    postgres.query("CREATE DATABASE directory").await;
    let database = Database::elsewhere(&postgres.url("directory"));
    let servers = [
        guarded(&database, &["--compression", "gzip"]).await,
        guarded(&database, &["--compression", "gzip"]).await,
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
                    .go_on(address, 60 * TIME, PACE, Some(&attacker))
                    .await;
            })
        });
        // It connects before, as a flood of connections may keep another one out.
        let mut channels = Vec::new();
        for server in &servers {
            let channel = server.connect().await;
            known(&channel, &victim, true).await;
            channels.push(channel);
        }
        revoke(&database, &name).await;
        let revoked = Instant::now();
        for channel in &channels {
            refused(channel, &victim).await;
        }
        longest = longest.max(revoked.elapsed());
        for attacked in attacked {
            assert!(!attacked.is_finished(), "{attack:?} has ended before");
            attacked.abort();
        }
    }
    say(&format!(
        "a token was refused by two instances {longest:?} at most after it was revoked, whatever the attack"
    ));
    for server in servers {
        server.stop().await;
    }
}
