use std::{io::Write, path::Path};

use group_service::store::{
    Db, Settings,
    backup::{self, BackupError, Holdings},
};

use super::told;
use crate::{EXIT_USAGE, shutdown};

/// Copies the database to a file.
pub(super) async fn backup(settings: &Settings, file: &Path) -> Result<(), (u8, String)> {
    tell(unless_stopped(backup::make(&settings.location, file)).await?);
    Ok(())
}

/// Makes the database from a backup, or only checks it.
pub(super) async fn restore(
    settings: &Settings,
    file: &Path,
    check: bool,
    force: bool,
) -> Result<(), (u8, String)> {
    let held = if check {
        unless_stopped(backup::check(file)).await
    } else {
        unless_stopped(backup::restore(&settings.location, file, force)).await
    };
    tell(held?);
    Ok(())
}

/// Gives the directory's history another id.
pub(super) async fn new_history(settings: &Settings) -> Result<(), (u8, String)> {
    let db = Db::open(settings).await;
    let db = db.map_err(|error| (EXIT_USAGE, error.to_string()))?;
    let directory = backup::new_history(&db).await;
    db.close().await;
    let directory = directory.map_err(|error| (1, error.to_string()))?;
    let id = directory.history_id;
    let _ = writeln!(std::io::stdout(), "history_id       {id}");
    Ok(())
}

/// Whoever is stopped in the middle takes what is half done away.
async fn unless_stopped(
    work: impl Future<Output = Result<Holdings, BackupError>>,
) -> Result<Holdings, (u8, String)> {
    let stopped = shutdown().map_err(|error| (1, format!("can't wait for signals: {error}")))?;
    tokio::select! {
        held = work => held.map_err(|error| (EXIT_USAGE, error.to_string())),
        () = stopped => Err((1, "stopped before it was done: nothing has changed".to_owned())),
    }
}

fn tell(held: Holdings) {
    let Holdings {
        history,
        revision,
        oldest,
        changed,
        groups,
        roles,
        users,
    } = held;
    let changed = changed.map_or("none is kept".to_owned(), told);
    let _ = write!(
        std::io::stdout(),
        "history_id       {history}\n\
         revision         {revision}\n\
         oldest_revision  {oldest}\n\
         last_change      {changed}\n\
         groups           {groups}\n\
         roles            {roles}\n\
         users            {users}\n",
        revision = revision.number(),
        oldest = oldest.number(),
    );
}
