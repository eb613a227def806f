//! The way of log lines to standard error: they gather for a moment, and a thread of its own writes them together.
//! A caller never waits for it: while standard error isn't read, lines beyond a bound are dropped and counted.

use std::{
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for others. Errors don't wait, nor does what stands before them. Warnings do: in an overload
/// each call that is refused is one.
const PAUSE: Duration = Duration::from_millis(10);
/// The thread doesn't pause once so many bytes wait.
const MANY: usize = 128 << 10;
/// So many bytes may wait; lines beyond are dropped.
const MAX_WAITING: usize = 1 << 20;
/// Size of one write: small enough that progress shows that standard error is being read.
const CHUNK: usize = 16 << 10;
/// How long shutdown waits for each write to make progress.
const STALL_TIMEOUT: Duration = Duration::from_millis(500);
/// How long shutdown waits for all that is left to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Of the process, as its subscriber is.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// How many lines were dropped since the start, because standard error didn't take them.
#[must_use]
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Lines on their way to standard error.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Notified when the thread has something to do.
    wake: Condvar,
    /// Notified when the thread has written something.
    written: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Whether the thread should write without a pause.
    urgent: bool,
    writing: bool,
    /// How often something was written.
    writes: u64,
    /// How many lines were dropped since it was last logged that some were.
    dropped: u64,
}

impl Lines {
    /// Starts the thread that writes them.
    ///
    /// # Errors
    /// There can't be another thread.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let lines = Self(shared.clone());
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.run())?;
        Ok(lines)
    }

    /// Waits until what waits is written, as long as standard error is read.
    pub fn flush(&self) {
        let begun = Instant::now();
        let mut state = self.0.state();
        state.urgent = true;
        self.0.wake.notify_one();
        while state.writing || !state.waiting.is_empty() {
            let writes = state.writes;
            let stalled = |state: &mut State| state.writes == writes;
            let waited = self
                .0
                .written
                .wait_timeout_while(state, STALL_TIMEOUT, stalled);
            let (next, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            if waited.timed_out() || begun.elapsed() > FLUSH_TIMEOUT {
                return;
            }
            state = next;
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut leaving = Vec::new();
        loop {
            let state = self.state();
            let state = self
                .wake
                .wait_while(state, |state| state.waiting.is_empty());
            let state = state.unwrap_or_else(PoisonError::into_inner);
            let state = self
                .wake
                .wait_timeout_while(state, PAUSE, |state| !state.urgent);
            let (mut state, _) = state.unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut leaving, &mut state.waiting);
            state.urgent = false;
            state.writing = true;
            let dropped = std::mem::take(&mut state.dropped);
            drop(state);
            if dropped > 0 {
                // It follows what was waiting when lines began to be dropped.
                tracing::warn!(
                    lines.dropped = dropped,
                    "log lines were dropped: standard error wasn't read in time"
                );
            }
            if self.write(&leaving).is_err() {
                // Standard error may be closed.
                let lines = leaving.iter().filter(|byte| **byte == b'\n').count();
                DROPPED.fetch_add(lines as u64, Ordering::Relaxed);
            }
            leaving.clear();
            self.wrote(false);
        }
    }

    /// Writes all of it, also to a standard error that another process has made non-blocking.
    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let mut stderr = io::stderr();
        while !bytes.is_empty() {
            let chunk = bytes.get(..CHUNK).unwrap_or(bytes);
            match stderr.write(chunk) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    self.wrote(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn wrote(&self, more: bool) {
        let mut state = self.state();
        state.writing = more;
        state.writes += 1;
        drop(state);
        self.written.notify_all();
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            shared: &self.0,
            urgent: false,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Line<'a> {
        Line {
            shared: &self.0,
            urgent: *metadata.level() == Level::ERROR,
        }
    }
}

/// Takes one line.
#[derive(Debug)]
pub struct Line<'a> {
    shared: &'a Shared,
    urgent: bool,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.shared.state();
        if state.waiting.len() + bytes.len() > MAX_WAITING {
            state.dropped += 1;
            DROPPED.fetch_add(1, Ordering::Relaxed);
            return Ok(bytes.len());
        }
        let first = state.waiting.is_empty();
        state.waiting.extend_from_slice(bytes);
        let urgent = !state.urgent && (self.urgent || state.waiting.len() > MANY);
        state.urgent |= urgent;
        drop(state);
        if first || urgent {
            self.shared.wake.notify_one();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
