use std::io::Write;

use group_service::{
    config::TokenAction,
    domain::{Timestamp, Token},
    entity,
    error::Error,
    store::{self, Db, Settings},
};

use super::format_time;
use crate::EXIT_USAGE;

/// Creates, lists or revokes tokens.
pub(super) async fn token(settings: &Settings, action: &TokenAction) -> Result<(), (u8, String)> {
    let db = Db::open(settings).await;
    let db = db.map_err(|error| (EXIT_USAGE, error.to_string()))?;
    let result = run_step(&db, action).await;
    db.close().await;
    result.map_err(|error| (1, format!("{}: {error}", settings.location)))
}

async fn run_step(db: &Db, action: &TokenAction) -> Result<(), String> {
    let failed = |error: Error| error.to_string();
    match action {
        TokenAction::Create {
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
                describe(&row, db.now())
            );
        }
        TokenAction::List => {
            for row in store::token::list(db).await.map_err(failed)? {
                let _ = writeln!(std::io::stdout(), "{}", describe(&row, db.now()));
            }
        }
        TokenAction::Revoke { id } => {
            if !store::token::revoke(db, *id).await.map_err(failed)? {
                return Err(format!("there is no token {id} to revoke"));
            }
        }
    }
    Ok(())
}

/// Describes a token without its secret.
fn describe(row: &entity::token::Model, now: Timestamp) -> String {
    let state = match (row.revoked_at, row.expires_at) {
        (Some(revoked), _) => format!("revoked {}", format_time(revoked)),
        (None, Some(expires)) if expires <= now => format!("expired {}", format_time(expires)),
        (None, Some(expires)) => format!("until {}", format_time(expires)),
        (None, None) => "until it is revoked".to_owned(),
    };
    format!(
        "{}  {:<22}  {}  {state}",
        row.id,
        row.permissions,
        row.caller.as_str()
    )
}
