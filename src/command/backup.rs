use std::{io::Write, path::Path};

use group_service::store::{
    Db, Settings,
    backup::{self, BackupError, BackupSummary},
};

use super::format_time;
use crate::{EXIT_USAGE, shutdown};

/// Copies the database to a file.
pub(super) async fn backup(settings: &Settings, file: &Path) -> Result<(), (u8, String)> {
    print_summary(run_until_shutdown(backup::make(&settings.location, file)).await?);
    Ok(())
}

/// Restores the database from a backup, or only checks the backup.
pub(super) async fn restore(
    settings: &Settings,
    file: &Path,
    check: bool,
    force: bool,
) -> Result<(), (u8, String)> {
    let summary = if check {
        run_until_shutdown(backup::check(file)).await
    } else {
        run_until_shutdown(backup::restore(&settings.location, file, force)).await
    };
    print_summary(summary?);
    Ok(())
}

/// Gives the directory's history a new id.
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

/// Runs `work` until it is done or a signal arrives; dropping it then removes its partial file.
async fn run_until_shutdown(
    work: impl Future<Output = Result<BackupSummary, BackupError>>,
) -> Result<BackupSummary, (u8, String)> {
    let stopped = shutdown().map_err(|error| (1, format!("can't wait for signals: {error}")))?;
    tokio::select! {
        summary = work => summary.map_err(|error| (EXIT_USAGE, error.to_string())),
        () = stopped => Err((1, "stopped before it was done: nothing has changed".to_owned())),
    }
}

fn print_summary(summary: BackupSummary) {
    let BackupSummary {
        history,
        revision,
        oldest,
        changed,
        groups,
        roles,
        users,
    } = summary;
    let changed = changed.map_or("none is kept".to_owned(), format_time);
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
