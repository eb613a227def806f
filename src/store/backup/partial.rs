//! A file that gets its name when it is whole.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use super::absolute;
use crate::store::engine::sqlite;

/// A file that is still being written, under another name in the same directory; gone if it isn't finished.
#[derive(Debug)]
pub(super) struct Partial {
    path: PathBuf,
    target: PathBuf,
    published: bool,
}

impl Partial {
    /// Creates it, empty. Only its owner may read it.
    pub(super) fn create(target: &Path) -> Result<Self, String> {
        let target = absolute(target)?;
        vacant(&target)?;
        let path = sqlite::beside(&target, ".partial");
        let created = sqlite::private().create_new(true).open(&path);
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

    /// Where it is written.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives it its name once it is on the disk. Nobody may have it open any more.
    pub(super) fn publish(mut self) -> Result<(), String> {
        vacant(&self.target)?;
        let published = File::open(&self.path)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&self.path, &self.target));
        let wrong = |error| format!("{} can't be written ({error})", self.target.display());
        published.map_err(wrong)?;
        self.published = true;
        let directory = self.target.parent().unwrap_or(Path::new("/"));
        // The name must outlive a power cut, too.
        File::open(directory)
            .and_then(|directory| directory.sync_all())
            .map_err(wrong)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.published {
            // Whoever made it is told of worse than this.
            let _ = fs::remove_file(&self.path);
            let _ = fs::remove_file(sqlite::beside(&self.path, "-journal"));
        }
    }
}

/// A file that is there already stays as it is.
fn vacant(target: &Path) -> Result<(), String> {
    match target.symlink_metadata() {
        Ok(_) => Err(format!("{} is there already", target.display())),
        Err(_) => Ok(()),
    }
}
