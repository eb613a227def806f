//! Server processes, and programs that run to completion.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{PAUSE, TIMEOUT};

/// How long child processes of a killed server get to exit by themselves.
const GRACE: Duration = Duration::from_secs(3);

/// A server's process and its child processes; killed and waited for on drop.
#[derive(Debug)]
pub(super) struct ServerProcess {
    child: Child,
    dir: PathBuf,
    killed: Option<Instant>,
    /// Whether all processes are gone: processes in the directory then belong to another server.
    gone: bool,
}

impl ServerProcess {
    /// Starts a server that runs in `dir` and logs to `dir/log`.
    pub(super) fn spawn(mut command: Command, dir: &Path) -> Self {
        let log = File::options()
            .append(true)
            .create(true)
            .open(dir.join("log"))
            .expect("a log");
        let child = command
            .stdout(log.try_clone().expect("the same"))
            .stderr(log)
            .spawn()
            .expect("setpriv runs");
        Self {
            child,
            dir: dir.into(),
            killed: None,
            gone: false,
        }
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn has_exited(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    pub(super) async fn kill(&mut self) {
        while !self.killed() {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks the server to stop, and waits for it for a limited time.
    pub(super) fn request_stop(&mut self, name: &str) {
        if self.killed.is_some() {
            return;
        }
        signal(self.pid(), name);
        let asked = Instant::now();
        while !self.has_exited() && asked.elapsed() < GRACE {
            std::thread::sleep(PAUSE);
        }
    }

    /// Kills the server; returns whether all its processes are gone.
    fn killed(&mut self) -> bool {
        if self.gone {
            return true;
        }
        if self.killed.is_none() {
            // Fails if it has already ended.
            let _ = self.child.kill();
        }
        let since = self.killed.get_or_insert_with(Instant::now).elapsed();
        if !self.has_exited() {
            return false;
        }
        let left = working_in(&self.dir);
        if since > GRACE {
            for pid in &left {
                signal(*pid, "KILL");
            }
        }
        self.gone = left.is_empty() || since > TIMEOUT;
        self.gone
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        while !self.killed() {
            std::thread::sleep(PAUSE);
        }
    }
}

/// The end of a server's log.
pub(super) fn log(dir: &Path) -> String {
    let log = fs::read(dir.join("log")).unwrap_or_default();
    String::from_utf8_lossy(&log[log.len().saturating_sub(4000)..]).into_owned()
}

/// Runs a program to completion; returns its standard output, or its exit status and standard error.
pub(super) async fn run(command: Command) -> Result<String, String> {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(TIMEOUT, command.output())
        .await
        .map_err(|_| format!("no end in time: {command:?}"))?
        .map_err(|error| format!("{error}: {command:?}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{} {}", output.status, text(&output.stderr)))
    }
}

/// Starts a server, repeatedly until it serves: right after a crash, the killed process may still hold its port or
/// lock.
pub(super) async fn serve(
    start: impl Fn() -> ServerProcess,
    dir: &Path,
    serves: impl AsyncFn() -> bool,
) -> ServerProcess {
    let since = Instant::now();
    let mut running = start();
    while !serves().await {
        let late = since.elapsed() > TIMEOUT;
        assert!(!late, "the server doesn't serve: {}", log(dir));
        if running.has_exited() {
            running = start();
        }
        tokio::time::sleep(PAUSE).await;
    }
    running
}

fn signal(pid: u32, name: &str) {
    let mut kill = Command::new("kill");
    kill.args(["-s", name, &pid.to_string()]);
    // The process may have ended already.
    let _ = kill.stderr(Stdio::null()).status();
}

/// The processes whose working directory is below this one; zombies have no working directory.
fn working_in(dir: &Path) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("Linux");
    processes
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let works = fs::read_link(entry.path().join("cwd")).ok()?;
            works.starts_with(dir).then_some(pid)
        })
        .collect()
}
