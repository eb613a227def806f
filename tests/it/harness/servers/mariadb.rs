//! MariaDB.

use std::{fs, path::Path, process::Command};

use super::{
    Account, Dir, PAUSE, free_port,
    process::{ServerProcess, log, run, serve},
    program,
};

const USER: &str = "group_service";
const PASSWORD: &str = "secret";

/// A running MariaDB server, stopped and removed on drop.
#[derive(Debug)]
pub(crate) struct MariaDb {
    running: ServerProcess,
    port: u16,
    account: Account,
    options: Vec<String>,
    // Dropped after the processes that run in it.
    dir: Dir,
}

impl MariaDb {
    /// Starts a server with additional options. Returns a reason if its programs aren't installed.
    pub(crate) async fn start(options: &[&str]) -> Result<Self, String> {
        let (account, dir) = install().await?;
        let options = options.iter().map(ToString::to_string).collect();
        Ok(Self::serve(account, dir, options, &[]).await)
    }

    /// Starts a server on data created by `install`; the options in `once` apply to this start only.
    pub(super) async fn serve(
        account: Account,
        dir: Dir,
        options: Vec<String>,
        once: &[String],
    ) -> Self {
        let port = free_port();
        let running = launch(&dir.path, account, port, &[&options, once]).await;
        Self {
            running,
            port,
            account,
            options,
            dir,
        }
    }

    pub(crate) fn url(&self, database: &str) -> String {
        url(&[self.address()], database)
    }

    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Kills the server, as a crash would.
    pub(crate) async fn kill(&mut self) {
        self.running.kill().await;
    }

    /// Starts the server again after a crash, on the same data and port.
    pub(crate) async fn restart(&mut self) {
        self.restart_with(&[]).await;
    }

    pub(super) async fn restart_with(&mut self, once: &[String]) {
        self.kill().await;
        let options = [&self.options, once];
        self.running = launch(&self.dir.path, self.account, self.port, &options).await;
    }

    /// Runs the server in recovery mode, which exits when done; returns its log.
    pub(super) async fn recover(&self) -> String {
        let program = program("mariadbd", &[]).expect("looked for");
        let mut command = self.account.command(&program, &self.dir.path, "KILL");
        command.args(basics(&self.dir.path)).args(&self.options);
        // It listens before it recovers, by default on the standard port, which another server may use.
        command.args(["--wsrep-recover", "--skip-networking"]);
        let mut recovery = ServerProcess::spawn(command, &self.dir.path);
        while !recovery.has_exited() {
            tokio::time::sleep(PAUSE).await;
        }
        log(&self.dir.path)
    }

    /// Runs a query; returns one line per row, with tabs between values.
    pub(crate) async fn query(&self, sql: &str) -> String {
        self.try_query(sql).await.expect("answered")
    }

    pub(super) async fn try_query(&self, sql: &str) -> Result<String, String> {
        query(self.port, sql).await
    }
}

/// A `mysql` URL of one server, or of several for failover.
pub(super) fn url(addresses: &[String], database: &str) -> String {
    format!(
        "mysql://{USER}:{PASSWORD}@{}/{database}",
        addresses.join(",")
    )
}

/// Creates a data directory with a user that has all privileges.
pub(super) async fn install() -> Result<(Account, Dir), String> {
    for name in ["mariadbd", "mariadb", "setpriv"] {
        program(name, &[])?;
    }
    let install = program("mariadb-install-db", &[])?;
    let account = Account::of("mysql")?;
    let dir = Dir::new(account);
    let users = ["%", "localhost"].map(|host| {
        format!(
            "CREATE USER {USER}@'{host}' IDENTIFIED BY '{PASSWORD}';
            GRANT ALL PRIVILEGES ON *.* TO {USER}@'{host}' WITH GRANT OPTION;\n"
        )
    });
    let file = dir.path.join("users.sql");
    fs::write(&file, format!("FLUSH PRIVILEGES;\n{}", users.concat())).expect("written");
    let mut command = account.command(&install, &dir.path, "KILL");
    command
        .args(basics(&dir.path))
        .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
        .arg(format!("--extra-file={}", file.display()));
    run(command).await.expect("a data directory");
    Ok((account, dir))
}

fn basics(dir: &Path) -> Vec<String> {
    let dir = dir.display();
    vec![
        // Ignores the machine's own configuration files.
        "--no-defaults".into(),
        format!("--datadir={dir}/data"),
        format!("--tmpdir={dir}"),
        format!("--socket={dir}/socket"),
        "--skip-name-resolve".into(),
        "--innodb-buffer-pool-size=64M".into(),
        "--innodb-log-file-size=48M".into(),
    ]
}

async fn launch(dir: &Path, account: Account, port: u16, options: &[&[String]]) -> ServerProcess {
    let program = program("mariadbd", &[]).expect("looked for");
    let start = || {
        let mut command = account.command(&program, dir, "KILL");
        command.args(basics(dir)).args([
            "--bind-address=127.0.0.1",
            &format!("--port={port}"),
            &format!("--pid-file={}/pid", dir.display()),
            "--max-connections=500",
        ]);
        command.args(options.concat());
        ServerProcess::spawn(command, dir)
    };
    serve(start, dir, async || query(port, "SELECT 1").await.is_ok()).await
}

async fn query(port: u16, sql: &str) -> Result<String, String> {
    let mut client = Command::new(program("mariadb", &[]).expect("looked for"));
    client
        .args(["--no-defaults", "--protocol=TCP", "--host=127.0.0.1"])
        .args(["--skip-column-names", "--batch", "--raw"])
        .args(["--user", USER, &format!("--port={port}"), "--execute", sql])
        .env("MYSQL_PWD", PASSWORD);
    run(client).await
}
