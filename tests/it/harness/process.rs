//! Runs the program as a separate process.

use std::{
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use group_service::pb::{
    group_service_client::GroupServiceClient, role_service_client::RoleServiceClient,
    user_service_client::UserServiceClient,
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, ChildStdout, Command},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tonic::transport::Channel;

/// Long enough for a busy machine; only a defect takes longer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A command that runs the program, without the settings in the environment of the tests.
pub(crate) fn binary() -> Command {
    without_settings(Command::new(env!("CARGO_BIN_EXE_group-service")))
}

/// The same with a `ulimit`, such as `-n 256`.
pub(crate) fn binary_with_ulimit(ulimit: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit {ulimit} && exec \"$0\" \"$@\"")]);
    shell.arg(env!("CARGO_BIN_EXE_group-service"));
    without_settings(shell)
}

fn without_settings(mut command: Command) -> Command {
    for variable in [
        "LISTEN",
        "DATABASE_URL",
        "LOG",
        "LOG_FORMAT",
        "OTLP_ENDPOINT",
    ] {
        command.env_remove(format!("GROUP_SERVICE_{variable}"));
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    command
}

fn spawn(mut command: Command) -> (Child, BufReader<ChildStdout>, BufReader<ChildStderr>) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let stdout = BufReader::new(child.stdout.take().expect("piped"));
    let stderr = BufReader::new(child.stderr.take().expect("piped"));
    (child, stdout, stderr)
}

/// The running program.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) start_line: String,
    /// Read continuously, so that the program never blocks on writing its log.
    log: watch::Receiver<String>,
    logging: JoinHandle<()>,
}

impl Process {
    /// Starts the program on a database and a free port.
    pub(crate) async fn start(database: &str) -> Self {
        let mut command = binary();
        command
            .args(["--listen", "127.0.0.1:0", "--log", "info", "--database-url"])
            .arg(database);
        Self::spawn(command).await
    }

    /// Starts a prepared command, and waits for its start-up line.
    pub(crate) async fn spawn(command: Command) -> Self {
        let (child, stdout, mut stderr) = spawn(command);
        let (log_sender, log) = watch::channel(String::new());
        let logging = tokio::spawn(async move {
            let mut line = Vec::new();
            while stderr
                .read_until(b'\n', &mut line)
                .await
                .expect("it is read")
                > 0
            {
                log_sender.send_modify(|log| log.push_str(&String::from_utf8_lossy(&line)));
                line.clear();
            }
        });
        Self::started(child, stdout, log, logging).await
    }

    /// The same, with a log that isn't read unless the test reads it.
    pub(crate) async fn spawn_with_unread_log(command: Command) -> (Self, BufReader<ChildStderr>) {
        let (child, stdout, stderr) = spawn(command);
        let (_, log) = watch::channel(String::new());
        let started = Self::started(child, stdout, log, tokio::spawn(async {})).await;
        (started, stderr)
    }

    async fn started(
        child: Child,
        mut stdout: BufReader<ChildStdout>,
        log: watch::Receiver<String>,
        logging: JoinHandle<()>,
    ) -> Self {
        let mut start_line = String::new();
        let line = stdout.read_line(&mut start_line).await;
        if line.expect("standard output is text") == 0 {
            logging.await.expect("a log");
            panic!("no start-up line: {}", *log.borrow());
        }
        let address = start_line
            .split_once("listens on ")
            .and_then(|(_, rest)| rest.split_once(','))
            .and_then(|(address, _)| address.parse().ok())
            .unwrap_or_else(|| panic!("no address in {start_line:?}"));
        Self {
            child,
            address,
            start_line,
            log,
            logging,
        }
    }

    pub(crate) async fn connect(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.address))
            .expect("a URI")
            .connect()
            .await
            .expect("the server accepts")
    }

    pub(crate) async fn clients(
        &self,
    ) -> (
        GroupServiceClient<Channel>,
        RoleServiceClient<Channel>,
        UserServiceClient<Channel>,
    ) {
        let channel = self.connect().await;
        (
            GroupServiceClient::new(channel.clone()),
            RoleServiceClient::new(channel.clone()),
            UserServiceClient::new(channel),
        )
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("still running")
    }

    /// Sends a signal, by its name. After `STOP` no thread of the process runs any more.
    pub(crate) async fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.pid().to_string()])
            .status()
            .await
            .expect("kill runs");
        assert!(status.success());
        while name == "STOP" && !self.is_stopped() {
            tokio::task::yield_now().await;
        }
    }

    /// Whether every thread of the process is stopped (the state follows the name in its `stat`).
    fn is_stopped(&self) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).expect("it is there");
        threads.into_iter().all(|thread| {
            let stat = thread.expect("listed").path().join("stat");
            let stat = std::fs::read_to_string(stat).unwrap_or_default();
            let state = stat.rsplit(") ").next();
            state.is_none_or(|state| state.starts_with('T'))
        })
    }

    /// Waits until the log contains this text.
    pub(crate) async fn wait_for_log(&self, text: &str) {
        let mut log = self.log.clone();
        let said = timeout(TIMEOUT, log.wait_for(|log| log.contains(text))).await;
        let said = said.unwrap_or_else(|_| panic!("{text:?} isn't in {}", *self.log.borrow()));
        said.expect("it is running");
    }

    /// Kills the program, as a crash would.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("the program is killed");
    }

    /// Waits until the program exits; returns its exit status and its log.
    pub(crate) async fn wait_for_exit(mut self) -> (ExitStatus, String) {
        let status = timeout(TIMEOUT, self.child.wait()).await;
        let status = status
            .expect("the program ends in time")
            .expect("it can be waited for");
        self.logging.await.expect("a log");
        let log = self.log.borrow().clone();
        (status, log)
    }

    /// Stops the program with a signal, as an operator would; returns its log.
    pub(crate) async fn stop(self) -> String {
        self.signal("TERM").await;
        let (status, log) = self.wait_for_exit().await;
        assert!(status.success(), "{status}: {log}");
        log
    }
}
