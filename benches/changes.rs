//! What changes cost: writers beside followers, and a long history beside a short one.
//!
//! `cargo bench` (or `cargo bench -- followers` for the first of them) prints ratios of medians, each from rounds that alternate in one run: single figures mean
//! little on a machine that others share. Server and client are separate processes.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a measurement that can't go on ends, and its result is what it prints"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use group_service::pb::{
    self, change_service_client::ChangeServiceClient, group_service_client::GroupServiceClient,
    role_service_client::RoleServiceClient, user_service_client::UserServiceClient,
};
use tokio::task::JoinSet;
use tonic::transport::Channel;

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(2);
const WRITERS: usize = 16;
const FOLLOWERS: usize = 100;
const HISTORY: usize = 1_000_000;
const BATCH: usize = 1000;

struct Server {
    process: Child,
    address: String,
}

impl Server {
    fn start(data: &Path, further: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_group-service"))
            .args(["--listen", "127.0.0.1:0", "--log", "warn", "--database-url"])
            .arg(format!("sqlite:{}", data.display()))
            .args(further)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("piped");
        BufReader::new(stdout)
            .read_line(&mut line)
            .expect("a start-up line");
        let address = line
            .split("listens on ")
            .nth(1)
            .and_then(|rest| rest.split(',').next());
        let address = format!("http://{}", address.expect("an address"));
        Self { process, address }
    }

    async fn connect(&self) -> Channel {
        let endpoint = Channel::from_shared(self.address.clone()).expect("a URI");
        endpoint.connect().await.expect("the server accepts")
    }

    /// Resident memory, in MiB.
    fn memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("the process runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
        kib.expect("a size") / 1024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A group, and users who are not in it.
async fn stage(server: &Server, name: &str, users: usize) -> (String, Vec<String>) {
    let channel = server.connect().await;
    let request = pb::CreateRoleRequest {
        name: name.into(),
        ..Default::default()
    };
    let role = RoleServiceClient::new(channel.clone())
        .create_role(request)
        .await;
    let role = role.expect("created").into_inner().role.expect("a role").id;
    let title = name.into();
    let request = pb::CreateGroupRequest {
        title,
        role_ids: vec![role],
        ..Default::default()
    };
    let group = GroupServiceClient::new(channel.clone())
        .create_group(request)
        .await;
    let group = group
        .expect("created")
        .into_inner()
        .group
        .expect("a group")
        .id;
    let mut ids = Vec::new();
    let mut client = UserServiceClient::new(channel);
    for number in 0..users {
        let username = format!("{name} {number}");
        let request = pb::CreateUserRequest {
            username,
            ..Default::default()
        };
        let user = client
            .create_user(request)
            .await
            .expect("created")
            .into_inner()
            .user;
        ids.push(user.expect("a user").id);
    }
    (group, ids)
}

/// Each writer assigns and unassigns its user for a while: the latency of every call.
async fn write(server: &Server, group: &str, users: &[String], time: Duration) -> Vec<Duration> {
    let mut writers = JoinSet::new();
    for user in users {
        let mut client = GroupServiceClient::new(server.connect().await);
        let (group_id, user_id) = (group.to_owned(), user.clone());
        writers.spawn(async move {
            let (began, mut latencies) = (Instant::now(), Vec::new());
            while began.elapsed() < time {
                let call = Instant::now();
                let (group_id, user_id) = (group_id.clone(), user_id.clone());
                if latencies.len() % 2 == 0 {
                    let request = pb::AssignUserRequest {
                        group_id,
                        user_id,
                        ..Default::default()
                    };
                    client.assign_user(request).await.expect("assigned");
                } else {
                    let request = pb::UnassignUserRequest {
                        group_id,
                        user_id,
                        allow_missing: true,
                        ..Default::default()
                    };
                    client.unassign_user(request).await.expect("unassigned");
                }
                latencies.push(call.elapsed());
            }
            latencies
        });
    }
    writers.join_all().await.into_iter().flatten().collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn percentile_99(mut latencies: Vec<Duration>) -> f64 {
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100].as_secs_f64() * 1000.0
}

fn range(values: &[f64]) -> String {
    let least = values.iter().copied().fold(f64::MAX, f64::min);
    let most = values.iter().copied().fold(f64::MIN, f64::max);
    format!("{least:.2}..{most:.2}")
}

/// Writers alone and beside followers of whom half never read.
async fn followers(data: &Path) {
    let server = Server::start(data, &[]);
    let (group, users) = stage(&server, "followed", WRITERS).await;
    write(&server, &group, &users, ROUND).await;
    let (mut alone, mut beside, mut memory) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(write(&server, &group, &users, ROUND).await.len() as f64 / ROUND.as_secs_f64());
        let mut following = JoinSet::new();
        let mut silent = Vec::new();
        for number in 0..FOLLOWERS {
            let mut client = ChangeServiceClient::new(server.connect().await);
            let feed = client
                .watch_changes(pb::WatchChangesRequest::default())
                .await;
            let mut feed = feed.expect("followed").into_inner();
            if number % 2 == 0 {
                silent.push(feed);
            } else {
                following.spawn(async move { while let Ok(Some(_)) = feed.message().await {} });
            }
        }
        beside.push(write(&server, &group, &users, ROUND).await.len() as f64 / ROUND.as_secs_f64());
        memory.push(server.memory());
        following.shutdown().await;
    }
    let ratios: Vec<_> = beside
        .iter()
        .zip(&alone)
        .map(|(beside, alone)| beside / alone)
        .collect();
    println!(
        "{WRITERS} writers beside {FOLLOWERS} followers, half of whom never read, to alone: {:.2} ({}); {:.0} to {:.0} writes/s; memory {} to {} MiB",
        median(ratios.clone()),
        range(&ratios),
        median(beside),
        median(alone),
        memory[0],
        memory[ROUNDS - 1],
    );
}

/// The oldest and the newest thousand changes: what a page of each costs, in ms.
async fn pages(server: &Server, last: &str) -> (f64, f64) {
    let mut client = ChangeServiceClient::new(server.connect().await);
    let mut cost = [Vec::new(), Vec::new()];
    for _ in 0..50 {
        for (cost, token) in cost.iter_mut().zip(["", last]) {
            let request = pb::ListChangesRequest {
                page_size: 100,
                page_token: token.into(),
                ..Default::default()
            };
            let began = Instant::now();
            client.list_changes(request).await.expect("listed");
            cost.push(began.elapsed().as_secs_f64() * 1000.0);
        }
    }
    let [first, last] = cost.map(median);
    (first, last)
}

/// The token of the page of the last hundred changes.
async fn last_page(server: &Server) -> String {
    let mut client = ChangeServiceClient::new(server.connect().await);
    let newest = client
        .list_changes(pb::ListChangesRequest {
            page_size: 1,
            ..Default::default()
        })
        .await;
    let _ = newest.expect("listed");
    let (mut token, mut previous) = (String::new(), String::new());
    let mut size = 1000;
    loop {
        let request = pb::ListChangesRequest {
            page_size: size,
            page_token: token.clone(),
            ..Default::default()
        };
        let page = client
            .list_changes(request)
            .await
            .expect("listed")
            .into_inner();
        if page.next_page_token.is_empty() {
            if size == 100 {
                return previous;
            }
            // Once more, in smaller steps, from where the last large page begins.
            size = 100;
            continue;
        }
        previous = page.next_page_token.clone();
        token = page.next_page_token;
    }
}

/// A history of a million changes beside a short one, and what its expiry costs.
async fn history(short: &Path, long: &Path) {
    let server = [Server::start(short, &[]), Server::start(long, &[])];
    let (short_group, short_users) = stage(&server[0], "short", BATCH + 1).await;
    let (long_group, long_users) = stage(&server[1], "long", BATCH + 1).await;
    let mut client = GroupServiceClient::new(server[1].connect().await);
    let began = Instant::now();
    let mut middle = began;
    for number in 0..HISTORY / BATCH {
        if number == HISTORY / BATCH / 2 {
            middle = Instant::now();
        }
        let (group_id, user_ids) = (long_group.clone(), long_users[..BATCH].to_vec());
        if number % 2 == 0 {
            let request = pb::BatchAssignUsersRequest {
                group_id,
                user_ids,
                ..Default::default()
            };
            client.batch_assign_users(request).await.expect("assigned");
        } else {
            let request = pb::BatchUnassignUsersRequest {
                group_id,
                user_ids,
                ..Default::default()
            };
            client
                .batch_unassign_users(request)
                .await
                .expect("unassigned");
        }
    }
    println!(
        "{HISTORY} changes recorded in {:.0} s",
        began.elapsed().as_secs_f64()
    );

    let last = [last_page(&server[0]).await, last_page(&server[1]).await];
    let (mut assign, mut first, mut tail) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let one = write(&server[0], &short_group, &short_users[BATCH..], ROUND)
            .await
            .len();
        let other = write(&server[1], &long_group, &long_users[BATCH..], ROUND)
            .await
            .len();
        assign.push(other as f64 / one as f64);
        let one = pages(&server[0], &last[0]).await;
        let other = pages(&server[1], &last[1]).await;
        first.push(one.0 / other.0);
        tail.push(one.1 / other.1);
    }
    for (what, ratios) in [
        ("AssignUser", &assign),
        ("ListChanges, first page", &first),
        ("ListChanges, last page", &tail),
    ] {
        println!(
            "{what}, speed with {HISTORY} changes to with few: {:.2} ({})",
            median(ratios.clone()),
            range(ratios)
        );
    }

    let users = &long_users[..WRITERS];
    let quiet = percentile_99(write(&server[1], &long_group, users, 4 * ROUND).await);
    drop(server);
    let kept = format!("{}s", middle.elapsed().as_secs());
    let server = Server::start(long, &["--changes-retention", &kept]);
    // It begins after 10 seconds, and goes on for half a minute.
    tokio::time::sleep(Duration::from_secs(11)).await;
    let expiring = percentile_99(write(&server, &long_group, users, 4 * ROUND).await);
    let mut client = ChangeServiceClient::new(server.connect().await);
    let oldest = client
        .list_changes(pb::ListChangesRequest {
            page_size: 1,
            ..Default::default()
        })
        .await;
    let oldest = oldest.expect("listed").into_inner().changes[0].revision;
    println!(
        "99 % of {WRITERS} writers' calls while what is before revision {oldest} expires, to quiet: {:.2} ({expiring:.1} to {quiet:.1} ms)",
        expiring / quiet
    );
}

#[tokio::main]
async fn main() {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("load of the machine before: {}", load.trim());
    let dir = std::env::temp_dir().join(format!("group-service-bench-{}", std::process::id()));
    fs::create_dir(&dir).expect("a directory");
    followers(&dir.join("followed.db")).await;
    if std::env::args().any(|argument| argument == "followers") {
        return fs::remove_dir_all(dir).expect("removed");
    }
    history(&dir.join("short.db"), &dir.join("long.db")).await;
    fs::remove_dir_all(dir).expect("removed");
}
