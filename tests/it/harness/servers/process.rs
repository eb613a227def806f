//! A server's process, and programs that are run to their end.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{PATIENCE, PAUSE};

/// How long what a killed server has started gets to notice.
const GRACE: Duration = Duration::from_secs(3);

/// A server's process and those that it started; killed and waited for at the end.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    dir: PathBuf,
    killed: Option<Instant>,
    /// All of it; what works in the directory afterwards is another server.
    gone: bool,
}

impl Running {
    /// Starts a server that works in `dir`, and logs there.
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

    pub(super) fn ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    pub(super) async fn kill(&mut self) {
        while !self.killed() {
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks the server to end, and waits a while.
    pub(super) fn ask(&mut self, name: &str) {
        if self.killed.is_some() {
            return;
        }
        signal(self.pid(), name);
        let asked = Instant::now();
        while !self.ended() && asked.elapsed() < GRACE {
            std::thread::sleep(PAUSE);
        }
    }

    /// Kills the server; tells whether all of it is gone.
    fn killed(&mut self) -> bool {
        if self.gone {
            return true;
        }
        if self.killed.is_none() {
            // Fails if it has ended already.
            let _ = self.child.kill();
        }
        let since = self.killed.get_or_insert_with(Instant::now).elapsed();
        if !self.ended() {
            return false;
        }
        let left = working_in(&self.dir);
        if since > GRACE {
            for pid in &left {
                signal(*pid, "KILL");
            }
        }
        self.gone = left.is_empty() || since > PATIENCE;
        self.gone
    }
}

impl Drop for Running {
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

/// Runs a program to its end: what it says, or what it complains about.
pub(super) async fn run(command: Command) -> Result<String, String> {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output())
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

/// Starts a server until it serves: right after a crash it may find its former self still there.
pub(super) async fn serve(
    start: impl Fn() -> Running,
    dir: &Path,
    serves: impl AsyncFn() -> bool,
) -> Running {
    let since = Instant::now();
    let mut running = start();
    while !serves().await {
        let late = since.elapsed() > PATIENCE;
        assert!(!late, "the server doesn't serve: {}", log(dir));
        if running.ended() {
            running = start();
        }
        tokio::time::sleep(PAUSE).await;
    }
    running
}

fn signal(pid: u32, name: &str) {
    let mut kill = Command::new("kill");
    kill.args(["-s", name, &pid.to_string()]);
    // It may be gone already.
    let _ = kill.stderr(Stdio::null()).status();
}

/// The processes whose working directory is in this one; zombies have none.
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
