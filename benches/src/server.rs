//! The real server, started as users do: with the default log filter, logging to a file.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::channel::Channel;

use crate::child::on_cores;

/// A running server, killed on drop; its log is removed.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
    address: String,
    log: PathBuf,
}

impl Server {
    /// Starts a server on a SQLite file.
    pub(crate) fn start_sqlite(data: &Path, further: &[&str]) -> Self {
        Self::start(&url(data), further, data.parent().expect("a file"), None)
    }

    /// Starts a server on a database, pinned to these cores if given; its log is a file in `logs`.
    pub(crate) fn start(url: &str, further: &[&str], logs: &Path, cores: Option<&str>) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let log = logs.join(format!("server-{number}.log"));
        let mut process = on_cores(&program(), cores)
            .args(["--listen", "127.0.0.1:0", "--database-url", url])
            .args(further)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).expect("a log"))
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
            .and_then(|rest| rest.split(',').next())
            .map(|address| format!("http://{address}"));
        let address = address.unwrap_or_else(|| {
            let log = fs::read_to_string(&log).unwrap_or_default();
            panic!("the server doesn't start: {log}");
        });
        Self {
            process,
            address,
            log,
        }
    }

    /// The gRPC address.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Connects to the server.
    pub(crate) async fn connect(&self) -> Channel {
        Channel::connect(&self.address).await
    }

    /// Resident memory in MiB: current or peak.
    pub(crate) fn memory(&self, most: bool) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("the process runs");
        let name = if most { "VmHWM:" } else { "VmRSS:" };
        let line = status.lines().find(|line| line.starts_with(name));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        kib.expect("a size") / 1024.0
    }

    /// The process id.
    pub(crate) fn process(&self) -> u32 {
        self.process.id()
    }

    /// The warnings in its log.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).expect("a log");
        let bad = |line: &&str| line.contains(" WARN ") || line.contains("ERROR ");
        log.lines().filter(bad).map(str::to_owned).collect()
    }

    /// The processor time used so far.
    pub(crate) fn processor_time(&self) -> Duration {
        processor_time(self.process.id())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.log);
    }
}

/// The database URL of a SQLite file.
pub(crate) fn url(data: &Path) -> String {
    format!("sqlite:{}", data.display())
}

/// Opens several connections.
pub(crate) async fn channels(address: &str, number: usize) -> Vec<Channel> {
    let mut channels = Vec::with_capacity(number);
    for _ in 0..number {
        channels.push(Channel::connect(address).await);
    }
    channels
}

/// The processor time used by a process: user and system, with a resolution of 10 ms.
pub(crate) fn processor_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    // The process name, in parentheses, may contain anything; 11 fields follow before the times.
    let fields = stat.rsplit(')').next().expect("fields");
    let ticks = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("a number"));
    Duration::from_millis(ticks.sum::<u64>() * 10)
}

/// Migrates a database to the server's schema.
pub(crate) fn migrate(data: &Path) {
    let status = Command::new(program())
        .args(["--database-url", &url(data), "migrate", "up"])
        .stdout(Stdio::null())
        .status();
    assert!(status.expect("it runs").success(), "no schema");
}

/// Creates a token with all permissions.
pub(crate) fn token(data: &Path) -> String {
    let output = Command::new(program())
        .args(["--database-url", &url(data)])
        .args(["token", "create", "bench", "--permissions", "all"])
        .output()
        .expect("it runs");
    assert!(output.status.success(), "no token");
    let text = String::from_utf8(output.stdout).expect("text");
    text.trim_end().to_owned()
}

/// Whether the server has a setting.
pub(crate) fn supports_setting(setting: &str) -> bool {
    static HELP: OnceLock<String> = OnceLock::new();
    let help = HELP.get_or_init(|| {
        let output = Command::new(program()).arg("--help").output();
        String::from_utf8(output.expect("it runs").stdout).expect("text")
    });
    help.contains(setting)
}

/// The path of the server program, next to this one, where the same command builds it.
fn program() -> PathBuf {
    let own = std::env::current_exe().expect("a path");
    own.with_file_name("group-service")
}
