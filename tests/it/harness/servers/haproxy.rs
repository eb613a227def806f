//! `HAProxy` in front of PostgreSQL, as with Patroni: it leads to whichever server is the primary.

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
    process::{Running, serve},
    program,
};

/// How long a server has to tell whether it's the primary.
const TURN: Duration = Duration::from_secs(1);

/// `HAProxy`, thrown away at the end.
#[derive(Debug)]
pub(crate) struct HaProxy {
    _running: Running,
    port: u16,
    /// In place of Patroni's REST API, one for each server; they end with this.
    _patronis: JoinSet<()>,
    // After what runs in it.
    _dir: Dir,
}

impl HaProxy {
    /// Starts a proxy of servers, and waits until it leads to one; says why if it isn't installed.
    pub(crate) async fn start(servers: &[&Postgres]) -> Result<Self, String> {
        let program = program("haproxy", &[])?;
        let account = Account::oneself();
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
            Running::spawn(command, &dir.path)
        };
        // It takes every server for one that is up, until it has asked.
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

/// How many servers the proxy takes for the primary.
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

/// Answers whether the server is the primary, one request after the other.
async fn patroni(listener: TcpListener, server: u16) {
    let mut session = None;
    loop {
        let (stream, _) = listener.accept().await.expect("accepts");
        let primary = timeout(TURN, is_primary(&mut session, server)).await;
        let primary = primary.ok().flatten();
        if primary.is_none() {
            // It knows nothing of the server's next life.
            session = None;
        }
        // Who asks may have gone.
        let _ = timeout(TURN, answer(stream, primary == Some(true))).await;
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

/// A client that stays connected, which costs less than one for each question.
struct Session {
    questions: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    /// Ends with this.
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

    /// Whether the server is the primary; nothing if it doesn't say.
    async fn ask(&mut self) -> Option<bool> {
        let question = b"select pg_is_in_recovery();\n";
        self.questions.write_all(question).await.ok()?;
        let answer = self.answers.next_line().await.ok()??;
        Some(answer == "f")
    }
}
