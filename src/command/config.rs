use std::io::Write;

use group_service::{
    config::{ConfigStep, Loaded, example, show},
    listen::Security,
};

use crate::EXIT_USAGE;

/// Looks after the configuration, which has been found right when it comes here.
pub(super) fn config(loaded: &Loaded, step: ConfigStep) -> Result<(), (u8, String)> {
    let text = match step {
        ConfigStep::Check => {
            Security::load(&loaded.config).map_err(|reason| (EXIT_USAGE, reason))?;
            "the configuration is right\n".to_owned()
        }
        ConfigStep::Show => show(&loaded.settings),
        ConfigStep::Example => example(),
    };
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}
