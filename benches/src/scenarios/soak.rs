//! All features for a long time: `bench soak --rounds 10 --seconds 180`. Resource usage must not grow.

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
    channel::{Channel, TestCertificate},
    directory::Directory,
    report::{Row, Target},
    rounds::MedianRange,
    server::{Server, token},
};

const READERS: usize = 4;
const WRITERS: usize = 4;
const WATCHERS: usize = 20;
/// Less than each watcher receives in half an hour.
const MESSAGE_MEMORY: (&str, u64) = ("16MiB", 16 << 20);
/// Maximum ratio of the resource usage in the last third to that in the first.
const MAX_GROWTH: f64 = 1.1;

/// State shared by the tasks, which run until `stop` is set.
#[derive(Clone)]
struct SoakState {
    address: String,
    signed: TestCertificate,
    token: String,
    stop: Arc<AtomicBool>,
    calls: Arc<AtomicU64>,
}

impl SoakState {
    async fn connect(&self) -> Channel {
        Channel::connect_tls(&self.address, &self.signed, &self.token).await
    }

    fn is_running(&self) -> bool {
        self.calls.fetch_add(1, Ordering::Relaxed);
        !self.stop.load(Ordering::Relaxed)
    }
}

pub(super) async fn soak(run: &mut Run) {
    let directory = small(run, "soak");
    let signed = TestCertificate::make(run.dir.path());
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
    let server = Server::start_sqlite(&directory.path, &further);
    let work = SoakState {
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
            while work.is_running() {
                read(channel.clone(), work.calls.load(Ordering::Relaxed)).await;
                sleep(Duration::from_millis(1)).await;
            }
        });
    }
    for number in 0..WRITERS {
        let (work, directory, channel) = (work.clone(), directory.clone(), work.connect().await);
        tasks.spawn(async move { write(&work, &directory, channel, number as u64).await });
    }
    let mut watchers = JoinSet::new();
    let received: Vec<Arc<AtomicU64>> = (0..WATCHERS).map(|_| Arc::default()).collect();
    for received in &received {
        watchers.spawn(follow(work.connect().await, received.clone()));
    }
    tasks.spawn(reconnect(work.clone(), read));
    tasks.spawn(reload(work.clone(), server.process(), metrics));
    let (mut memory, mut descriptors) = (Vec::new(), Vec::new());
    for _ in 0..run.rounds.max(3) {
        // Several samples per round, so that short peaks don't count as growth.
        let (mut bytes, mut open) = (Vec::new(), Vec::new());
        for _ in 0..20 {
            sleep(run.time / 20).await;
            bytes.push(server.memory(false));
            let entries = fs::read_dir(format!("/proc/{}/fd", server.process()));
            open.push(entries.expect("the process runs").count() as f64);
        }
        memory.push(MedianRange::of(&bytes).median);
        descriptors.push(MedianRange::of(&open).median);
        eprintln!(
            "soak: {} MiB, {} descriptors",
            memory[memory.len() - 1],
            descriptors[descriptors.len() - 1]
        );
    }
    assert!(watchers.try_join_next().is_none(), "no feed ends");
    watchers.shutdown().await;
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
    for (what, measured) in [("memory", &memory), ("descriptors", &descriptors)] {
        let third = measured.len() / 3;
        let (first, last) = (&measured[..third], &measured[measured.len() - third..]);
        let note = format!(
            "{:.0} to {:.0}; {calls} calls in {} s",
            MedianRange::of(first).median,
            MedianRange::of(last).median,
            run.time.as_secs() * measured.len() as u64,
        );
        run.report.add(Row {
            scenario: "soak",
            what: format!("{what} of the last third of the time, with everything on"),
            against: "of the first third".to_owned(),
            target: Target::AtMost(MAX_GROWTH),
            unit: "",
            measured: MedianRange::ratio(last, first),
            note,
        });
    }
    run.report.add(Row {
        scenario: "soak",
        what: format!("what each of {WATCHERS} followers has received on one stream, at least"),
        against: "`--message-memory`".to_owned(),
        target: Target::AtLeast(1.0),
        unit: "",
        measured: MedianRange::of(&[least as f64 / MESSAGE_MEMORY.1 as f64]),
        note: format!("{} MiB", least >> 20),
    });
    run.report.add(Row {
        scenario: "soak",
        what: "warnings and errors in its log".to_owned(),
        against: String::new(),
        target: Target::AtMost(0.0),
        unit: "lines",
        measured: MedianRange::of(&[warnings.len() as f64]),
        note: String::new(),
    });
}

/// Adds users to groups and removes them again, so that the directory doesn't grow.
async fn write(work: &SoakState, directory: &Directory, channel: Channel, number: u64) {
    let mut groups = GroupServiceClient::new(channel);
    let mut user = number * 1000;
    while work.is_running() {
        user = number * 1000 + (user + 1) % 1000;
        let (group, user) = directory.disjoint_pair(user);
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

/// Watches the changes on one stream, and counts the bytes received.
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

/// Opens new connections continuously.
async fn reconnect(work: SoakState, read: crate::calls::Call) {
    while work.is_running() {
        read(work.connect().await, work.calls.load(Ordering::Relaxed)).await;
        sleep(Duration::from_millis(100)).await;
    }
}

/// Rotates certificates of the same authority, and scrapes the metrics.
async fn reload(work: SoakState, process: u32, metrics: String) {
    while work.is_running() {
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
