//! Everything on, for a long time: `bench soak --rounds 10 --seconds 180`. What is taken must not grow.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use group_service::pb::{
    self, change_service_client::ChangeServiceClient, group_service_client::GroupServiceClient,
};
use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::sleep,
};

use super::{reads, small};
use crate::{
    Run,
    calls::in_turn,
    channel::{Channel, Signed},
    directory::Directory,
    report::{Row, Wanted},
    rounds::Spread,
    server::{Server, token},
};

const READERS: usize = 4;
const WRITERS: usize = 4;
const FOLLOWERS: usize = 20;
/// Less than each follower receives in half an hour.
const MESSAGE_MEMORY: (&str, u64) = ("16MiB", 16 << 20);
/// How much of what was taken in the first third may be taken in the last.
const FLAT: f64 = 1.1;

/// Who goes on until told to stop.
#[derive(Clone)]
struct Work {
    address: String,
    signed: Signed,
    token: String,
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
}

impl Work {
    async fn connect(&self) -> Channel {
        Channel::secured(&self.address, &self.signed, &self.token).await
    }

    fn goes_on(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed);
        !self.stop.load(Ordering::Relaxed)
    }
}

pub(super) async fn soak(run: &mut Run) {
    let directory = small(run, "soak");
    let signed = Signed::make(run.dir.path());
    let token = token(&directory.path);
    let file = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    let (certificate, key) = (file(&signed.certificate), file(&signed.key));
    let metrics = free_address();
    let further = [
        "--authentication",
        "required",
        "--tls-certificate",
        &certificate,
        "--tls-key",
        &key,
        "--metrics-listen",
        &metrics,
        "--changes-retention",
        "60s",
        "--compression",
        "gzip",
        "--message-memory",
        MESSAGE_MEMORY.0,
    ];
    let server = Server::on_file(&directory.path, &further);
    let work = Work {
        address: server.address().to_owned(),
        signed: signed.clone(),
        token,
        stop: Arc::default(),
        calls: Arc::default(),
    };
    let mut tasks = JoinSet::new();
    let read = in_turn(reads::calls(&directory).map(|(_, call)| call));
    for _ in 0..READERS {
        let (work, read, channel) = (work.clone(), read.clone(), work.connect().await);
        tasks.spawn(async move {
            while work.goes_on() {
                read(channel.clone(), work.calls.load(Ordering::Relaxed)).await;
                sleep(Duration::from_millis(1)).await;
            }
        });
    }
    for number in 0..WRITERS {
        let (work, directory, channel) = (work.clone(), directory.clone(), work.connect().await);
        tasks.spawn(async move { write(&work, &directory, channel, number as u64).await });
    }
    let mut followers = JoinSet::new();
    let received: Vec<Arc<AtomicU64>> = (0..FOLLOWERS).map(|_| Arc::default()).collect();
    for received in &received {
        followers.spawn(follow(work.connect().await, received.clone()));
    }
    tasks.spawn(reconnect(work.clone(), read));
    tasks.spawn(reload(work.clone(), server.process(), metrics));
    let (mut memory, mut descriptors) = (Vec::new(), Vec::new());
    for _ in 0..run.rounds.max(3) {
        // Several looks a round: what is there for a moment only isn't what grows.
        let (mut bytes, mut open) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            sleep(run.time / 20).await;
            bytes.push(server.memory(false));
            let entries = fs::read_dir(format!("/proc/{}/fd", server.process()));
            open.push(entries.expect("the process runs").count() as f64);
        }
        memory.push(Spread::of(&bytes).median);
        descriptors.push(Spread::of(&open).median);
        eprintln!(
            "soak: {} MiB, {} descriptors",
            memory[memory.len() - 1],
            descriptors[descriptors.len() - 1]
        );
    }
    assert!(followers.try_join_next().is_none(), "no feed ends");
    followers.shutdown().await;
    let received = received.iter().map(|bytes| bytes.load(Ordering::Relaxed));
    let least = received.min().unwrap_or_default();
    work.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no call fails");
    }
    let warnings = server.warnings();
    for line in &warnings {
        eprintln!("soak: {line}");
    }
    let calls = work.calls.load(Ordering::Relaxed);
    for (what, seen) in [("memory", &memory), ("descriptors", &descriptors)] {
        let third = seen.len() / 3;
        let (first, last) = (&seen[..third], &seen[seen.len() - third..]);
        let note = format!(
            "{:.0} to {:.0}; {calls} calls in {} s",
            Spread::of(first).median,
            Spread::of(last).median,
            run.time.as_secs() * seen.len() as u64,
        );
        run.report.add(Row {
            line: "soak",
            what: format!("{what} of the last third of the time, with everything on"),
            against: "of the first third".to_owned(),
            wanted: Wanted::AtMost(FLAT),
            unit: "",
            seen: Spread::ratio(last, first),
            note,
        });
    }
    run.report.add(Row {
        line: "soak",
        what: format!("what each of {FOLLOWERS} followers has received on one stream, at least"),
        against: "`--message-memory`".to_owned(),
        wanted: Wanted::AtLeast(1.0),
        unit: "",
        seen: Spread::of(&[least as f64 / MESSAGE_MEMORY.1 as f64]),
        note: format!("{} MiB", least >> 20),
    });
    run.report.add(Row {
        line: "soak",
        what: "warnings and errors in its log".to_owned(),
        against: String::new(),
        wanted: Wanted::AtMost(0.0),
        unit: "lines",
        seen: Spread::of(&[warnings.len() as f64]),
        note: String::new(),
    });
}

/// Puts users into groups and takes them out again: the directory doesn't grow.
async fn write(work: &Work, directory: &Directory, channel: Channel, number: u64) {
    let mut groups = GroupServiceClient::new(channel);
    let mut user = number * 1000;
    while work.goes_on() {
        user = number * 1000 + (user + 1) % 1000;
        let (group, user) = directory.apart(user);
        let (group_id, user_id) = (directory.group(group), directory.user(user));
        let assign = pb::AssignUserRequest {
            group_id: group_id.clone(),
            user_id: user_id.clone(),
            ..Default::default()
        };
        groups.assign_user(assign).await.expect("assigned");
        let unassign = pb::UnassignUserRequest {
            group_id,
            user_id,
            ..Default::default()
        };
        groups.unassign_user(unassign).await.expect("unassigned");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Follows the changes on one stream, and counts the bytes received.
async fn follow(channel: Channel, received: Arc<AtomicU64>) {
    let mut changes = ChangeServiceClient::new(channel);
    let request = pb::WatchChangesRequest::default();
    let feed = changes.watch_changes(request).await;
    let mut feed = feed.expect("followed").into_inner();
    loop {
        let message = feed.message().await.expect("told").expect("it goes on");
        received.fetch_add(message.encoded_len() as u64, Ordering::Relaxed);
    }
}

/// New connections all the time.
async fn reconnect(work: Work, read: crate::calls::Call) {
    while work.goes_on() {
        read(work.connect().await, work.calls.load(Ordering::Relaxed)).await;
        sleep(Duration::from_millis(100)).await;
    }
}

/// Other certificates of the same authority, and somebody who looks at the metrics.
async fn reload(work: Work, process: u32, metrics: String) {
    while work.goes_on() {
        for _ in 0..10 {
            let mut stream = TcpStream::connect(&metrics).await.expect("it listens");
            let request = "GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
            stream.write_all(request.as_bytes()).await.expect("asked");
            let mut text = Vec::new();
            stream.read_to_end(&mut text).await.expect("answered");
            sleep(Duration::from_secs(1)).await;
        }
        work.signed.renew();
        let kill = tokio::task::spawn_blocking(move || {
            std::process::Command::new("kill")
                .args(["-s", "HUP", &process.to_string()])
                .status()
        });
        let status = kill.await.expect("it runs").expect("it runs");
        assert!(status.success());
    }
}

fn free_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}
