//! The database file: its lock, whether it is still at its path, and whether the disk is full.

use std::{
    fs::{File, TryLockError},
    io::{self, ErrorKind, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

/// How much space SQLite needs to open a database: its shared memory and the first pages of its log.
const REQUIRED_BYTES: usize = 64 << 10;

/// The lock that makes this process the only server of a database file, until it is dropped or the process ends.
///
/// It is on a separate file: closing any handle of the database file would release SQLite's locks on that. Its name
/// begins with a dot, so that `mv shop.db* elsewhere` leaves it where other processes look for it.
#[derive(Debug)]
pub(in crate::store) struct FileLock {
    path: PathBuf,
    _file: File,
}

impl FileLock {
    /// Takes the lock of the database file at `path`; `None` if the file system has no locks.
    ///
    /// # Errors
    /// One sentence for the operator: another process holds it, or it can't be taken.
    pub(in crate::store) fn take(path: &Path) -> Result<Option<Self>, String> {
        Self::try_take(path).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => {
                "a server has it open: stop that first (a SQLite file is for one server)".to_owned()
            }
            _ if path.exists() => format!("it can't be locked ({error})"),
            _ => format!("it can't be created ({error})"),
        })
    }

    fn try_take(database: &Path) -> io::Result<Option<Self>> {
        let path = Self::path_for(database)?;
        loop {
            let file = super::owner_only()
                .create(true)
                .truncate(false)
                .open(&path)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(ErrorKind::WouldBlock.into()),
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {
                    return Ok(None);
                }
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // The previous holder may have removed the file meanwhile. Then nobody else would find this lock.
            let locked = FileId::from(&file.metadata()?);
            if FileId::at(&path).is_ok_and(|there| there == locked) {
                return Ok(Some(Self { path, _file: file }));
            }
        }
    }

    /// The path of the lock file, the same for every path that leads to the database.
    fn path_for(database: &Path) -> io::Result<PathBuf> {
        let parent = database.parent().unwrap_or(Path::new("/"));
        let database = match database.canonicalize() {
            Ok(database) => database,
            Err(_) => parent
                .canonicalize()?
                .join(database.file_name().unwrap_or_default()),
        };
        let mut name = std::ffi::OsString::from(".");
        name.push(database.file_name().unwrap_or_default());
        name.push(".lock");
        Ok(database.with_file_name(name))
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // Removed before it is unlocked. If that fails, the file that stays behind is not locked, and does no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The identity of a file, whatever its path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn at(path: &Path) -> io::Result<Self> {
        path.metadata().map(|metadata| Self::from(&metadata))
    }
}

impl From<&std::fs::Metadata> for FileId {
    fn from(metadata: &std::fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// The open database file. What is written after it was moved away or replaced would be lost to the next process that
/// opens its path.
#[derive(Debug)]
pub(in crate::store) struct OpenFile {
    path: PathBuf,
    id: FileId,
    missing: AtomicBool,
    /// Never reset: some connections may have opened the other file meanwhile.
    replaced: AtomicBool,
}

impl OpenFile {
    /// Identifies the file at `path`, before it is opened.
    pub(in crate::store) fn at(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            id: FileId::at(path)?,
            missing: AtomicBool::default(),
            replaced: AtomicBool::default(),
        })
    }

    /// Fails if the file is no longer at its path, and logs that once.
    pub(in crate::store) fn check(&self) -> Result<(), String> {
        let found = FileId::at(&self.path);
        let path = self.path.display();
        match found {
            Ok(id) if id == self.id && !self.replaced.load(Ordering::Relaxed) => {
                self.missing.store(false, Ordering::Relaxed);
                Ok(())
            }
            Ok(_) => {
                if !self.replaced.swap(true, Ordering::Relaxed) {
                    tracing::error!(database = %path, "the database file was replaced by another one: restart the server to serve that one");
                }
                Err(format!("{path} was replaced by another file"))
            }
            Err(error) => {
                if !self.missing.swap(true, Ordering::Relaxed) {
                    tracing::error!(database = %path, %error, "the database file was moved away: move all of its files back, or stop the server");
                }
                Err(format!("{path} is no longer there ({error})"))
            }
        }
    }
}

/// Why a database can't be opened at `path`, if the disk is full. Finds out by writing a temporary file.
pub(in crate::store) fn disk_full_reason(path: &Path) -> Option<String> {
    let sibling_path = super::sibling_path(path, ".room");
    let created = super::owner_only().create_new(true).open(&sibling_path);
    let written = created.and_then(|mut file| {
        let written = file
            .write_all(&[0; REQUIRED_BYTES])
            .and_then(|()| file.sync_all());
        let _ = std::fs::remove_file(&sibling_path);
        written
    });
    let error = written.err().filter(|error| {
        matches!(
            error.kind(),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded
        )
    })?;
    let directory = path.parent().unwrap_or(Path::new("/")).display();
    Some(format!(
        "the disk is full: make room in {directory}, then start again ({error})"
    ))
}
