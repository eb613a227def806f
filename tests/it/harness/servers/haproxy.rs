//! `HAProxy` in front of PostgreSQL servers, as with Patroni: it connects clients to the primary.

use std::{fmt::Write, fs, path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    net::{TcpListener, TcpStream, UnixStream},
    process::{Child, ChildStdin, ChildStdout, Command},
    task::JoinSet,
    time::timeout,
};

use super::{
    Account, Dir, Postgres, free_port,
    postgres::{psql, url},
    process::{ServerProcess, serve},
    program,
};

/// Timeout of a check whether a server is the primary.
const PRIMARY_CHECK_TIMEOUT: Duration = Duration::from_secs(1);

/// A running `HAProxy`, stopped and removed on drop.
#[derive(Debug)]
pub(crate) struct HaProxy {
    _running: ServerProcess,
    port: u16,
    /// One task per server in place of Patroni's REST API; they end with this value.
    _patronis: JoinSet<()>,
    // Dropped after the processes that run in it.
    _dir: Dir,
}

impl HaProxy {
    /// Starts a proxy for these servers, and waits until it has a primary. Returns a reason if it isn't installed.
    pub(crate) async fn start(servers: &[&Postgres]) -> Result<Self, String> {
        let program = program("haproxy", &[])?;
        let account = Account::current();
        let dir = Dir::new(account);
        let port = free_port();
        let socket = dir.path.join("socket");
        let mut settings = format!(
            "global
    maxconn 1000
    stats socket {}
defaults
    mode tcp
    retries 2
    timeout client 30m
    timeout connect 4s
    timeout server 30m
    timeout check 2s
listen primary
    bind 127.0.0.1:{port}
    option httpchk GET /primary
    http-check expect status 200
    default-server inter 300ms fall 2 rise 1 on-marked-down shutdown-sessions\n",
            socket.display()
        );
        let mut patronis = JoinSet::new();
        for server in servers {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            let address = listener.local_addr().expect("an address");
            let (server, check) = (server.port(), address.port());
            writeln!(
                settings,
                "    server postgres-{server} 127.0.0.1:{server} check port {check}"
            )
            .expect("a string has room");
            patronis.spawn(patroni(listener, server));
        }
        fs::write(dir.path.join("haproxy.cfg"), settings).expect("written");
        let start = || {
            let mut command = account.command(&program, &dir.path, "KILL");
            command.args(["-db", "-f", "haproxy.cfg"]);
            ServerProcess::spawn(command, &dir.path)
        };
        // Until its first checks, HAProxy considers every server up.
        let chosen = async || up(&socket).await.is_ok_and(|up| up == 1);
        let running = serve(start, &dir.path, chosen).await;
        Ok(Self {
            _running: running,
            port,
            _patronis: patronis,
            _dir: dir,
        })
    }

    pub(crate) fn url(&self, database: &str) -> String {
        url(self.port, database)
    }
}

/// The number of servers that the proxy considers the primary.
async fn up(socket: &Path) -> std::io::Result<usize> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"show stat\n").await?;
    let mut table = String::new();
    stream.read_to_string(&mut table).await?;
    let servers = table
        .lines()
        .filter(|line| line.starts_with("primary,postgres-"));
    Ok(servers
        .filter(|line| {
            line.split(',')
                .nth(17)
                .is_some_and(|status| status.starts_with("UP"))
        })
        .count())
}

/// Serves health checks that say whether the server is the primary, one request at a time.
async fn patroni(listener: TcpListener, server: u16) {
    let mut session = None;
    loop {
        let (stream, _) = listener.accept().await.expect("accepts");
        let primary = timeout(PRIMARY_CHECK_TIMEOUT, is_primary(&mut session, server)).await;
        let primary = primary.ok().flatten();
        if primary.is_none() {
            // The session doesn't survive a restart of the server.
            session = None;
        }
        // The client may have disconnected.
        let _ = timeout(PRIMARY_CHECK_TIMEOUT, answer(stream, primary == Some(true))).await;
    }
}

async fn is_primary(session: &mut Option<Session>, server: u16) -> Option<bool> {
    session
        .get_or_insert_with(|| Session::new(server))
        .ask()
        .await
}

async fn answer(mut stream: TcpStream, primary: bool) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let status = if primary {
        "200 OK"
    } else {
        "503 Service Unavailable"
    };
    let head = format!("HTTP/1.0 {status}\r\ncontent-length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).await
}

/// A `psql` that stays connected, which is cheaper than one process per check.
struct Session {
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// Killed on drop.
    _psql: Child,
}

impl Session {
    fn new(server: u16) -> Self {
        let mut psql = Command::from(psql(server))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("psql runs");
        Self {
            questions: psql.stdin.take().expect("piped"),
            answers: BufReader::new(psql.stdout.take().expect("piped")).lines(),
            _psql: psql,
        }
    }

    /// Whether the server is the primary; `None` if it doesn't respond.
    async fn ask(&mut self) -> Option<bool> {
        let question = b"select pg_is_in_recovery();\n";
        self.questions.write_all(question).await.ok()?;
        let answer = self.answers.next_line().await.ok()??;
        Some(answer == "f")
    }
}
