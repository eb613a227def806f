//! Real database servers, each on a free port of this machine; stopped and removed on drop.
//!
//! They also end with the thread that started them (the test's own), even if that is killed.

pub(crate) mod galera;
pub(crate) mod haproxy;
pub(crate) mod mariadb;
pub(crate) mod postgres;
mod process;

use std::{
    fs::{self, DirBuilder},
    net::TcpListener,
    os::unix::{
        fs::{DirBuilderExt, MetadataExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

pub(crate) use galera::Galera;
pub(crate) use haproxy::HaProxy;
pub(crate) use mariadb::MariaDb;
pub(crate) use postgres::Postgres;

/// Long enough for a busy machine; only a defect takes longer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The polling interval for conditions that can't be awaited.
const PAUSE: Duration = Duration::from_millis(20);
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Space that the data of a few servers needs, in bytes.
const MIN_SHM_BYTES: u64 = 4 << 30;

/// Waits for the end of its input. Then kills the processes whose command line names a directory, such as a copy
/// between nodes, and removes the directory, along with the shared memory of a killed PostgreSQL, as its next start
/// would.
///
/// The directory is passed in a variable: on their own command lines, this script and `grep` would find and kill
/// themselves. An empty pattern would match every process, hence the check that it is set.
const CLEANUP_SCRIPT: &str = r#"
read -r _
: "${SWEPT:?}"; tries=0
while pids=$(printf %s "$SWEPT" | grep -slFf - /proc/[0-9]*/cmdline | cut -d/ -f3)
      [ -n "$pids" ] && [ $tries -lt 1000 ]; do
    kill -KILL $pids; sleep 0.01; tries=$((tries + 1))
done
shared=$(sed -n '7s/.* //p' "$SWEPT/data/postmaster.pid") && [ -n "$shared" ] && ipcrm -m "$shared"
until rm -rf -- "$SWEPT"; do sleep 0.1; done
"#;

/// Finds a program in these directories or in `PATH`.
fn program(name: &str, places: &[PathBuf]) -> Result<PathBuf, String> {
    places
        .iter()
        .cloned()
        .chain(PATH.split(':').map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .ok_or_else(|| format!("{name} isn't installed"))
}

/// A free port outside the ephemeral range: the system could give an ephemeral port to a client while a killed
/// server is down.
fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(67);
    let free = std::iter::repeat_with(|| {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        10_000 + u16::try_from(start.wrapping_add(next) % 20_000).expect("below 20,000")
    })
    .take(20_000)
    .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    free.expect("a free port")
}

/// Polls until the check returns a value.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut check: impl FnMut() -> F,
) -> T {
    let found = async {
        loop {
            if let Some(found) = check().await {
                return found;
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    tokio::time::timeout(TIMEOUT, found)
        .await
        .unwrap_or_else(|_| panic!("not in time: {what}"))
}

/// The account that runs a server: the server's own user if the tests run as root, which servers refuse, otherwise
/// the current user.
#[derive(Clone, Copy, Debug)]
struct Account(Option<(u32, u32)>);

impl Account {
    fn current() -> Self {
        Self(None)
    }

    fn of(user: &str) -> Result<Self, String> {
        let root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
        if !root {
            return Ok(Self::current());
        }
        let users = fs::read_to_string("/etc/passwd").map_err(|error| error.to_string())?;
        users
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| fields[0] == user)
            .and_then(|fields| {
                let id = |field: usize| fields.get(field)?.parse().ok();
                Some(Self(Some((id(2)?, id(3)?))))
            })
            .ok_or_else(|| format!("there is no user {user}"))
    }

    /// Makes the account the owner of a path.
    fn give_to(self, path: &Path) {
        if let Some((user, group)) = self.0 {
            chown(path, Some(user), Some(group)).expect("root may");
        }
    }

    /// A command that runs as this account in a directory, without the environment of the tests; it receives
    /// `signal` when the thread that starts it ends.
    fn command(self, program: &Path, dir: &Path, signal: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", signal]);
        if let Some((user, group)) = self.0 {
            command.arg(format!("--reuid={user}"));
            command.arg(format!("--regid={group}"));
            command.arg("--clear-groups");
        }
        command
            .arg(program)
            .current_dir(dir)
            .env_clear()
            .env("PATH", PATH)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null());
        command
    }
}

/// A new directory with a subdirectory `data`.
#[derive(Debug)]
struct Dir {
    path: PathBuf,
    /// A process that removes the directory when the pipe to it is closed, by this process or by its end: even if
    /// this process is killed.
    sweeper: Child,
}

impl Dir {
    fn new(account: Account) -> Self {
        let mut builder = tempfile::Builder::new();
        builder.prefix("group-service-");
        // In memory if there is space: syncing a file costs nothing there.
        let shm = Path::new("/dev/shm");
        let dir = if free_bytes(shm) >= MIN_SHM_BYTES {
            builder.tempdir_in(shm)
        } else {
            builder.tempdir()
        };
        let path = dir.expect("a directory").keep();
        account.give_to(&path);
        // PostgreSQL refuses a data directory that others can access.
        let data = path.join("data");
        DirBuilder::new().mode(0o700).create(&data).expect("made");
        account.give_to(&data);
        let sweeper = Command::new("sh")
            .args(["-c", CLEANUP_SCRIPT])
            .env("SWEPT", &path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Its own process group: Ctrl-C must not kill it.
            .process_group(0)
            .spawn()
            .expect("sh runs");
        Self { path, sweeper }
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        // Closes the pipe first, which starts the removal.
        let _ = self.sweeper.wait();
    }
}

/// Free space, in bytes.
fn free_bytes(dir: &Path) -> u64 {
    let df = Command::new("df")
        .args(["--block-size=1", "--output=avail"])
        .arg(dir)
        .output();
    df.ok()
        .and_then(|df| {
            let table = String::from_utf8_lossy(&df.stdout).into_owned();
            table.lines().nth(1)?.trim().parse().ok()
        })
        .unwrap_or_default()
}
