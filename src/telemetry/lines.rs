//! The log's way out: lines gather for a moment and go out together, so that no call waits for its own.

use std::{
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// How long a line waits for others. Errors don't wait, nor does what stands before them. Warnings do: in an overload
/// each call that is refused is one.
const PAUSE: Duration = Duration::from_millis(10);
/// So many bytes may wait; whoever brings more waits until they are out.
const MAX_WAITING: usize = 256 << 10;

/// Lines on their way to standard error. Whoever ends the process flushes them.
#[derive(Clone, Debug)]
pub struct Lines(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Vec<u8>>,
    /// Told when the first line waits.
    some: Condvar,
    /// What goes out, held by whoever writes it.
    leaving: Mutex<Vec<u8>>,
}

impl Lines {
    /// Starts the thread that lets them out.
    ///
    /// # Errors
    /// There can't be another thread.
    pub fn start() -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let lines = Self(shared.clone());
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                loop {
                    let waiting = shared.waiting();
                    drop(
                        shared
                            .some
                            .wait_while(waiting, |waiting| waiting.is_empty()),
                    );
                    thread::sleep(PAUSE);
                    shared.flush();
                }
            })?;
        Ok(lines)
    }

    /// Writes what waits.
    pub fn flush(&self) {
        self.0.flush();
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Vec<u8>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn flush(&self) {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *leaving, &mut self.waiting());
        // Standard error may be closed; there is nobody left to tell then.
        let _ = io::stderr().write_all(&leaving);
        leaving.clear();
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
        let mut waiting = self.shared.waiting();
        let first = waiting.is_empty();
        waiting.extend_from_slice(bytes);
        let many = waiting.len() > MAX_WAITING;
        drop(waiting);
        if self.urgent || many {
            self.shared.flush();
        } else if first {
            self.shared.some.notify_one();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
