use std::io::Write;

use group_service::{
    config::TokenStep,
    domain::{Timestamp, Token},
    entity,
    error::Error,
    store::{self, Db, Settings},
};

use super::told;
use crate::EXIT_USAGE;

/// Looks after the tokens that callers are known by.
pub(super) async fn token(settings: &Settings, step: &TokenStep) -> Result<(), (u8, String)> {
    let db = Db::open(settings).await;
    let db = db.map_err(|error| (EXIT_USAGE, error.to_string()))?;
    let result = look_after_tokens(&db, step).await;
    db.close().await;
    result.map_err(|error| (1, format!("{}: {error}", settings.location)))
}

async fn look_after_tokens(db: &Db, step: &TokenStep) -> Result<(), String> {
    let failed = |error: Error| error.to_string();
    match step {
        TokenStep::Create {
            caller,
            permissions,
            expires,
        } => {
            let token = Token::generate()
                .map_err(|error| format!("the system has no random bits: {error}"))?;
            let row = store::token::add(db, &token, caller.clone(), *permissions, *expires);
            let row = row.await.map_err(failed)?;
            let _ = writeln!(std::io::stdout(), "{}", token.reveal());
            let _ = writeln!(
                std::io::stderr(),
                "not shown again: {}",
                line(&row, db.now())
            );
        }
        TokenStep::List => {
            for row in store::token::list(db).await.map_err(failed)? {
                let _ = writeln!(std::io::stdout(), "{}", line(&row, db.now()));
            }
        }
        TokenStep::Revoke { id } => {
            if !store::token::revoke(db, *id).await.map_err(failed)? {
                return Err(format!("there is no token {id} to revoke"));
            }
        }
    }
    Ok(())
}

/// What may be told of a token.
fn line(row: &entity::token::Model, now: Timestamp) -> String {
    let state = match (row.revoked_at, row.expires_at) {
        (Some(revoked), _) => format!("revoked {}", told(revoked)),
        (None, Some(expires)) if expires <= now => format!("expired {}", told(expires)),
        (None, Some(expires)) => format!("until {}", told(expires)),
        (None, None) => "until it is revoked".to_owned(),
    };
    format!(
        "{}  {:<22}  {}  {state}",
        row.id,
        row.permissions,
        row.caller.as_str()
    )
}
