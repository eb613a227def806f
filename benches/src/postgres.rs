//! A separate PostgreSQL server, on disk and with durable commits, removed on drop.

use std::{
    fs::{self, File},
    net::TcpListener,
    os::unix::fs::{DirBuilderExt, MetadataExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// PostgreSQL refuses to run as root; Debian has this user for it.
const ACCOUNT: &str = "postgres";
/// Long enough for a busy machine.
const STARTUP_TIMEOUT: Duration = Duration::from_secs(60);

/// A running server, stopped on drop or when the thread that started it ends.
#[derive(Debug)]
pub(crate) struct Postgres {
    process: Child,
    port: u16,
}

impl Postgres {
    /// Starts a server with its data in `dir`. Returns a reason if it isn't installed.
    pub(crate) fn start(dir: &Path) -> Result<Self, String> {
        let bin = installed()?;
        let account = account()?;
        let data = dir.join("postgres");
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&data)
            .map_err(|error| error.to_string())?;
        if let Some((user, group)) = account {
            // The account needs access to its directory inside ours.
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o711);
            fs::set_permissions(dir, open).expect("ours");
            chown(&data, Some(user), Some(group)).expect("root may");
        }
        let log = File::create(dir.join("postgres.log")).expect("a log");
        let program = |name: &str, signal: &str| {
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", signal]);
            if let Some((user, group)) = account {
                command.args([format!("--reuid={user}"), format!("--regid={group}")]);
                command.arg("--clear-groups");
            }
            command
                .arg(bin.join(name))
                .arg("-D")
                .arg(&data)
                .current_dir(&data)
                .env("LC_ALL", "C.UTF-8")
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("the same"))
                .stderr(log.try_clone().expect("the same"));
            command
        };
        let made = program("initdb", "KILL")
            .args(["--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust"])
            .args(["--username=bench"])
            .status();
        if !made.is_ok_and(|status| status.success()) {
            let log = fs::read_to_string(dir.join("postgres.log")).unwrap_or_default();
            return Err(format!("initdb failed: {log}"));
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a free port")
            .port();
        let process = program("postgres", "QUIT")
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "unix_socket_directories=",
            ])
            .args(["-c", &format!("port={port}")])
            .spawn()
            .map_err(|error| error.to_string())?;
        let server = Self { process, port };
        server.ready(&bin)?;
        Ok(server)
    }

    /// The URL of its only database.
    pub(crate) fn url(&self) -> String {
        format!("postgres://bench@127.0.0.1:{}/postgres", self.port)
    }

    fn ready(&self, bin: &Path) -> Result<(), String> {
        let began = Instant::now();
        let port = self.port.to_string();
        loop {
            let ready = Command::new(bin.join("pg_isready"))
                .args(["-h", "127.0.0.1", "-p", &port])
                .stdout(Stdio::null())
                .status();
            if ready.is_ok_and(|status| status.success()) {
                return Ok(());
            }
            if began.elapsed() > STARTUP_TIMEOUT {
                return Err("PostgreSQL doesn't get ready".to_owned());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate shutdown, which also ends its child processes and releases its shared memory.
        let process = self.process.id().to_string();
        let _ = Command::new("kill").args(["-s", "QUIT", &process]).status();
        let _ = self.process.wait();
    }
}

/// The directory of the programs of the newest installed version.
fn installed() -> Result<PathBuf, String> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let newest = versions
        .filter_map(|version| {
            let path = version.ok()?.path();
            let number: u32 = path.file_name()?.to_str()?.parse().ok()?;
            let bin = path.join("bin");
            bin.join("initdb").is_file().then_some((number, bin))
        })
        .max();
    newest
        .map(|(_, bin)| bin)
        .ok_or_else(|| "PostgreSQL isn't installed".to_owned())
}

/// The account to run it as: its own one if this process runs as root.
fn account() -> Result<Option<(u32, u32)>, String> {
    let root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if !root {
        return Ok(None);
    }
    let users = fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
    users
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields[0] == ACCOUNT)
        .and_then(|fields| {
            Some(Some((
                fields.get(2)?.parse().ok()?,
                fields.get(3)?.parse().ok()?,
            )))
        })
        .ok_or_else(|| format!("there is no user {ACCOUNT}"))
}
