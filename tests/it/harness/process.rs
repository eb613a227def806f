//! The program itself, as a process of its own.

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

/// Long enough for a busy machine; nothing that works takes as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The program, not yet started, without the settings of whoever runs the tests.
pub(crate) fn binary() -> Command {
    prepared(Command::new(env!("CARGO_BIN_EXE_group-service")))
}

/// The same under a limit of the shell's: `-n 256`.
pub(crate) fn binary_under(ulimit: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit {ulimit} && exec \"$0\" \"$@\"")]);
    shell.arg(env!("CARGO_BIN_EXE_group-service"));
    prepared(shell)
}

fn prepared(mut command: Command) -> Command {
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

/// The program, serving.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) start_line: String,
    /// Read all the time, so that the program never waits for a reader of its log.
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

    /// Starts a program that is set up already, and waits for its start-up line.
    pub(crate) async fn spawn(command: Command) -> Self {
        let (child, stdout, mut stderr) = spawn(command);
        let (so_far, log) = watch::channel(String::new());
        let logging = tokio::spawn(async move {
            let mut line = Vec::new();
            while stderr
                .read_until(b'\n', &mut line)
                .await
                .expect("it is read")
                > 0
            {
                so_far.send_modify(|log| log.push_str(&String::from_utf8_lossy(&line)));
                line.clear();
            }
        });
        Self::started(child, stdout, log, logging).await
    }

    /// The same, with a log that is not read unless the test does.
    pub(crate) async fn spawn_unread(command: Command) -> (Self, BufReader<ChildStderr>) {
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

    /// Sends a signal, by its name.
    pub(crate) async fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.pid().to_string()])
            .status()
            .await
            .expect("kill runs");
        assert!(status.success());
    }

    /// Waits until the log says something.
    pub(crate) async fn says(&self, text: &str) {
        let mut log = self.log.clone();
        let said = timeout(PATIENCE, log.wait_for(|log| log.contains(text))).await;
        let said = said.unwrap_or_else(|_| panic!("{text:?} isn't in {}", *self.log.borrow()));
        said.expect("it is running");
    }

    /// Ends the program at once, as a crash does.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("the program is killed");
    }

    /// Waits for the program's end: how it ended, and what it logged.
    pub(crate) async fn ended(mut self) -> (ExitStatus, String) {
        let status = timeout(PATIENCE, self.child.wait()).await;
        let status = status
            .expect("the program ends in time")
            .expect("it can be waited for");
        self.logging.await.expect("a log");
        let log = self.log.borrow().clone();
        (status, log)
    }

    /// Stops the program as an operator would, and takes its log.
    pub(crate) async fn stop(self) -> String {
        self.signal("TERM").await;
        let (status, log) = self.ended().await;
        assert!(status.success(), "{status}: {log}");
        log
    }
}
