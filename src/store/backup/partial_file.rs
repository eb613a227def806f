//! A file that gets its name when it is complete.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::absolute;
use crate::store::engine::sqlite;

/// A file that is being written, under a temporary name in the same directory. It is removed if it isn't published.
#[derive(Debug)]
pub(super) struct PartialFile {
    path: PathBuf,
    target: PathBuf,
    published: bool,
}

impl PartialFile {
    /// Creates the temporary file, empty and readable by its owner only.
    pub(super) fn create(target: &Path) -> Result<Self, String> {
        let target = absolute(target)?;
        require_absent(&target)?;
        let path = sqlite::sibling_path(&target, ".partial");
        let created = sqlite::owner_only().create_new(true).open(&path);
        match created {
            Ok(_) => Ok(Self {
                path,
                target,
                published: false,
            }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(format!(
                "{} is there: another one is being made, or was killed; remove it then",
                path.display()
            )),
            Err(error) => Err(format!("{} can't be created ({error})", path.display())),
        }
    }

    /// The path of the temporary file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Syncs the file to disk and gives it its name. Nobody may have it open any more.
    pub(super) fn publish(mut self) -> Result<(), String> {
        require_absent(&self.target)?;
        let published = File::open(&self.path)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&self.path, &self.target));
        let wrong = |error| format!("{} can't be written ({error})", self.target.display());
        published.map_err(wrong)?;
        self.published = true;
        let directory = self.target.parent().unwrap_or(Path::new("/"));
        // The rename must survive a power failure, too.
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(wrong)
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if !self.published {
            // The error that prevented publishing is reported; that of removing the file matters less.
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_file(sqlite::sibling_path(&self.path, "-journal"));
        }
    }
}

/// Rejects an existing file, which must not be overwritten.
fn require_absent(target: &Path) -> Result<(), String> {
    match target.symlink_metadata() {
        Ok(_) => Err(format!("{} is there already", target.display())),
        Err(_) => Ok(()),
    }
}
