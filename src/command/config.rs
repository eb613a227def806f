use std::io::Write;

use group_service::{
    config::{ConfigAction, Loaded, example, show},
    listen::Security,
};

use crate::EXIT_USAGE;

/// Checks or shows the configuration, which has already been loaded and validated, or prints an example.
pub(super) fn config(loaded: &Loaded, action: ConfigAction) -> Result<(), (u8, String)> {
    let text = match action {
        ConfigAction::Check => {
            Security::load(&loaded.config).map_err(|reason| (EXIT_USAGE, reason))?;
            "the configuration is right\n".to_owned()
        }
        ConfigAction::Show => show(&loaded.settings),
        ConfigAction::Example => example(),
    };
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}
