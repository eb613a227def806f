use std::io::Write;

use group_service::{
    config::Migrate,
    store::{self, Direction, Migration, Settings},
};

/// Looks after the database's schema.
pub(super) async fn migrate(settings: &Settings, step: Migrate) -> Result<(), store::OpenError> {
    match step {
        Migrate::Up => store::migrate(settings, Direction::Up).await?,
        Migrate::Down => store::migrate(settings, Direction::Down).await?,
        Migrate::Status => {}
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
