use std::io::Write;

use group_service::{
    config::MigrateAction,
    store::{self, Direction, Migration, Settings},
};

/// Migrates the database's schema, and prints the migrations' states.
pub(super) async fn migrate(
    settings: &Settings,
    action: MigrateAction,
) -> Result<(), store::OpenError> {
    match action {
        MigrateAction::Up => store::migrate(settings, Direction::Up).await?,
        MigrateAction::Down => store::migrate(settings, Direction::Down).await?,
        MigrateAction::Status => {}
    }
    for Migration {
        name,
        applied,
        known,
    } in store::migrations(settings).await?
    {
        let state = match (applied, known) {
            (true, true) => "applied",
            (true, false) => "applied, by a newer version",
            (false, _) => "pending",
        };
        let _ = writeln!(std::io::stdout(), "{name}  {state}");
    }
    Ok(())
}
