//! Writes log lines to standard error, in batches, in a thread of its own. Logging never blocks: while standard error
//! isn't read, lines beyond a limit are dropped and counted.

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

/// How long lines are collected before they are written. Errors are written at once, with the lines before them.
/// Warnings are not, because under overload each rejected call logs one.
const BATCH_DELAY: Duration = Duration::from_millis(10);
/// Lines are written at once when this many bytes are buffered.
const FLUSH_THRESHOLD: usize = 128 << 10;
/// Maximum number of buffered bytes; lines beyond it are dropped.
const MAX_BUFFERED: usize = 1 << 20;
/// Size of one write: small enough that progress shows that standard error is being read.
const CHUNK: usize = 16 << 10;
/// How long shutdown waits for each write to make progress.
const STALL_TIMEOUT: Duration = Duration::from_millis(500);
/// How long shutdown waits for all that is left to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Global to the process, like its subscriber.
static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Number of lines dropped since the process started, because standard error didn't take them.
#[must_use]
pub fn dropped_lines() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// The writer of log lines.
#[derive(Clone, Debug)]
pub struct LogWriter(Arc<Shared>);

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
    buffered: Vec<u8>,
    /// Whether the thread should write without waiting for more lines.
    urgent: bool,
    writing: bool,
    /// Number of writes so far.
    writes: u64,
    /// Number of lines dropped since the last warning about that.
    dropped: u64,
}

impl LogWriter {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let lines = Self(shared.clone());
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || shared.run())?;
        Ok(lines)
    }

    /// Waits until all buffered lines are written, as long as standard error is read.
    pub fn flush(&self) {
        let begun = Instant::now();
        let mut state = self.0.state();
        state.urgent = true;
        self.0.wake.notify_one();
        while state.writing || !state.buffered.is_empty() {
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
        let mut batch = Vec::new();
        loop {
            let state = self.state();
            let state = self
                .wake
                .wait_while(state, |state| state.buffered.is_empty());
            let state = state.unwrap_or_else(PoisonError::into_inner);
            let state = self
                .wake
                .wait_timeout_while(state, BATCH_DELAY, |state| !state.urgent);
            let (mut state, _) = state.unwrap_or_else(PoisonError::into_inner);
            std::mem::swap(&mut batch, &mut state.buffered);
            state.urgent = false;
            state.writing = true;
            let dropped = std::mem::take(&mut state.dropped);
            drop(state);
            if dropped > 0 {
                // This warning comes after the lines that were buffered when dropping began.
                tracing::warn!(
                    lines.dropped = dropped,
                    "log lines dropped: standard error is not being read fast enough"
                );
            }
            if self.write(&batch).is_err() {
                // Standard error may be closed.
                let lines = batch.iter().filter(|byte| **byte == b'\n').count();
                DROPPED.fetch_add(lines as u64, Ordering::Relaxed);
            }
            batch.clear();
            self.record_write(false);
        }
    }

    /// Writes all bytes, even if another process has made standard error non-blocking.
    fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        let mut stderr = io::stderr();
        while !bytes.is_empty() {
            let chunk = bytes.get(..CHUNK).unwrap_or(bytes);
            match stderr.write(chunk) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    bytes = bytes.get(count..).unwrap_or_default();
                    self.record_write(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(BATCH_DELAY)
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn record_write(&self, more: bool) {
        let mut state = self.state();
        state.writing = more;
        state.writes += 1;
        drop(state);
        self.written.notify_all();
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LogLineWriter<'a>;

    fn make_writer(&'a self) -> LogLineWriter<'a> {
        LogLineWriter {
            shared: &self.0,
            urgent: false,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LogLineWriter<'a> {
        LogLineWriter {
            shared: &self.0,
            urgent: *metadata.level() == Level::ERROR,
        }
    }
}

/// Buffers one line.
#[derive(Debug)]
pub struct LogLineWriter<'a> {
    shared: &'a Shared,
    urgent: bool,
}

impl Write for LogLineWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.shared.state();
        if state.buffered.len() + bytes.len() > MAX_BUFFERED {
            state.dropped += 1;
            DROPPED.fetch_add(1, Ordering::Relaxed);
            return Ok(bytes.len());
        }
        let first = state.buffered.is_empty();
        state.buffered.extend_from_slice(bytes);
        let urgent = !state.urgent && (self.urgent || state.buffered.len() > FLUSH_THRESHOLD);
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
