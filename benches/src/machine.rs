//! The machine of a run, and its load.

use std::{fmt, fs, path::Path};

/// Properties of the machine that affect the results.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) processor: String,
    pub(crate) kernel: String,
    /// File system of the data: on an in-memory one, syncing a file costs nothing.
    pub(crate) disk: String,
    /// The 1-minute load average before and after the run.
    pub(crate) load: (String, String),
}

impl Machine {
    /// Inspects the machine before a run with its data in `dir`.
    pub(crate) fn look(dir: &Path) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let processor = processors
            .lines()
            .find(|line| line.starts_with("model name"))
            .and_then(|line| Some(line.split_once(':')?.1.trim().to_owned()));
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: processor.unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            disk: disk(dir, &read("/proc/self/mounts")),
            load: (load(), String::new()),
        }
    }

    /// Adds the load average after the run.
    pub(crate) fn ended(mut self) -> Self {
        self.load.1 = load();
        self
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cores,
            processor,
            kernel,
            disk,
            load,
        } = self;
        write!(
            f,
            "{cores} cores ({processor}), Linux {kernel}, data on {disk}, load average {}",
            load.0
        )?;
        if !load.1.is_empty() {
            write!(f, " before and {} after", load.1)?;
        }
        Ok(())
    }
}

fn load() -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    load.split(' ').next().unwrap_or_default().to_owned()
}

/// The file system of the longest mount point that `dir` is below.
fn disk(dir: &Path, mounts: &str) -> String {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        dir.starts_with(point).then_some((point.len(), kind))
    });
    let longest = mounts.max_by_key(|(length, _)| *length);
    longest.map_or_else(String::new, |(_, kind)| kind.to_owned())
}
