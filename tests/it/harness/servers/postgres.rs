//! PostgreSQL.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    Account, Dir, free_port,
    process::{ServerProcess, run, serve},
    program, until,
};

const USER: &str = "group_service";
/// A password that must be percent-encoded in a URL.
const PASSWORD: &str = "se:cret/@";
const ESCAPED: &str = "se%3Acret%2F%40";

/// A running PostgreSQL server, stopped and removed on drop.
#[derive(Debug)]
pub(crate) struct Postgres {
    running: ServerProcess,
    port: u16,
    account: Account,
    settings: Vec<String>,
    // Dropped after the processes that run in it.
    dir: Dir,
}

impl Postgres {
    /// Starts a server. Returns a reason if its programs aren't installed.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Result<Self, String> {
        for name in ["postgres", "initdb", "pg_basebackup", "pg_isready", "psql"] {
            installed(name)?;
        }
        program("setpriv", &[])?;
        let account = Account::of("postgres")?;
        let dir = Dir::new(account);
        let password = dir.path.join("password");
        fs::write(&password, PASSWORD).expect("written");
        let mut initdb = account.command(&installed("initdb")?, &dir.path, "KILL");
        initdb
            .args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"])
            .args(["--auth=scram-sha-256", "--username", USER, "--pwfile"])
            .arg(password)
            .args(["--pgdata", "data"]);
        run(initdb).await.expect("a data directory");
        let settings = settings
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        Ok(Self::serve(dir, account, settings.collect()).await)
    }

    async fn serve(dir: Dir, account: Account, settings: Vec<String>) -> Self {
        let port = free_port();
        let running = launch(&dir.path, account, port, &settings).await;
        Self {
            running,
            port,
            account,
            settings,
            dir,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self, database: &str) -> String {
        url(self.port, database)
    }

    /// Kills the server, as a crash would.
    pub(crate) async fn kill(&mut self) {
        self.running.kill().await;
    }

    /// Starts the server again after a crash, on the same data and port.
    pub(crate) async fn restart(&mut self) {
        self.kill().await;
        self.running = launch(&self.dir.path, self.account, self.port, &self.settings).await;
    }

    /// Starts a hot standby of this server.
    pub(crate) async fn standby(&self) -> Self {
        let dir = Dir::new(self.account);
        let program = installed("pg_basebackup").expect("looked for");
        let mut copy = self.account.command(&program, &dir.path, "KILL");
        let primary = format!(
            "host=127.0.0.1 port={} user={USER} application_name=standby",
            self.port
        );
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"])
            .args(["--pgdata", "data", "--dbname", &primary])
            .env("PGPASSWORD", PASSWORD);
        run(copy).await.expect("a copy");
        // After a promotion there is no standby that commits could wait for.
        File::options()
            .append(true)
            .open(dir.path.join("data/postgresql.auto.conf"))
            .and_then(|mut file| file.write_all(b"synchronous_standby_names = ''\n"))
            .expect("written");
        Self::serve(dir, self.account, self.settings.clone()).await
    }

    /// Switches to plain-text passwords: SCRAM is far too slow in clients built without optimization.
    pub(crate) async fn accept_plain_passwords(&self) {
        let path = self.dir.path.join("data/pg_hba.conf");
        let rules = fs::read_to_string(&path).expect("read");
        fs::write(&path, rules.replace("scram-sha-256", "password")).expect("written");
        self.query("select pg_reload_conf()").await;
    }

    /// Enables synchronous replication: a commit waits until a standby has it.
    pub(crate) async fn synchronous(&self) {
        self.query("alter system set synchronous_standby_names = 'standby'")
            .await;
        self.query("select pg_reload_conf()").await;
        let sync = "select count(*) from pg_stat_replication where sync_state = 'sync'";
        until("a synchronous standby", || async {
            (self.query(sync).await == "1").then_some(())
        })
        .await;
    }

    /// Promotes a standby.
    pub(crate) async fn promote(&self) {
        assert_eq!(self.query("select pg_promote()").await, "t");
        until("the promotion", || async {
            (self.query("select pg_is_in_recovery()").await == "f").then_some(())
        })
        .await;
    }

    /// Runs a query as the superuser; returns one line per row, with `|` between values.
    pub(crate) async fn query(&self, sql: &str) -> String {
        query(self.port, sql).await.expect("answered")
    }
}

impl Postgres {
    /// The same in another database of the server.
    pub(crate) async fn query_in(&self, database: &str, sql: &str) -> String {
        let mut psql = psql(self.port);
        psql.args(["-d"]).arg(format!(
            "host=127.0.0.1 port={} user={USER} dbname={database}",
            self.port
        ));
        psql.args(["-c", sql]);
        run(psql).await.expect("answered")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // An immediate shutdown, so that it releases its shared memory.
        self.running.request_stop("QUIT");
    }
}

async fn launch(dir: &Path, account: Account, port: u16, settings: &[String]) -> ServerProcess {
    let program = installed("postgres").expect("looked for");
    let start = || {
        // The same signal as in `Drop`, for the case that this process is killed.
        let mut command = account.command(&program, dir, "QUIT");
        command.args(["-D", "data"]);
        for setting in [
            "listen_addresses=127.0.0.1",
            &format!("port={port}"),
            "unix_socket_directories=",
            "max_connections=500",
            "shared_buffers=64MB",
            "wal_keep_size=256MB",
            "wal_retrieve_retry_interval=200ms",
            // In the data directory, so that it is removed with it.
            "dynamic_shared_memory_type=mmap",
        ]
        .into_iter()
        .chain(settings.iter().map(String::as_str))
        {
            command.args(["-c", setting]);
        }
        ServerProcess::spawn(command, dir)
    };
    let serves = async || {
        let mut ready = Command::new(installed("pg_isready").expect("looked for"));
        ready.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
        run(ready).await.is_ok()
    };
    serve(start, dir, serves).await
}

pub(super) fn url(port: u16, database: &str) -> String {
    format!("postgres://{USER}:{ESCAPED}@127.0.0.1:{port}/{database}")
}

/// A `psql` command that connects to this port.
pub(super) fn psql(port: u16) -> Command {
    let mut psql = Command::new(installed("psql").expect("looked for"));
    psql.args(["-AtqX", "-v", "ON_ERROR_STOP=1", "-d"])
        .arg(format!(
            "host=127.0.0.1 port={port} user={USER} dbname=postgres connect_timeout=10"
        ))
        .env("PGPASSWORD", PASSWORD);
    psql
}

pub(super) async fn query(port: u16, sql: &str) -> Result<String, String> {
    let mut psql = psql(port);
    psql.args(["-c", sql]);
    run(psql).await
}

/// The path of a program of the newest installed version.
fn installed(name: &str) -> Result<PathBuf, String> {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut versions: Vec<_> = versions
        .filter_map(|version| Some(version.ok()?.path()))
        .collect();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    versions.sort_by_key(|path| std::cmp::Reverse(number(path)));
    let dirs: Vec<_> = versions.iter().map(|path| path.join("bin")).collect();
    program(name, &dirs)
}
