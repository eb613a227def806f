//! What a database error means: by the driver's code and, for constraints, by one table.

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr, sqlx};

use crate::{
    domain::FieldViolation,
    error::{Cause, Error, Unique},
};

/// The constraints that a request can break. Every other one stands behind a newtype or a statement that
/// keeps it: breaking it is a defect.
const CONSTRAINTS: [Constraint; 5] = [
    // uq_groups_title_key
    Constraint {
        sqlite: "groups.title_key",
        error: || Error::Taken(Unique::GroupTitle),
    },
    // uq_roles_name_key
    Constraint {
        sqlite: "roles.name_key",
        error: || Error::Taken(Unique::RoleName),
    },
    // uq_users_username_key
    Constraint {
        sqlite: "users.username_key",
        error: || Error::Taken(Unique::Username),
    },
    Constraint {
        sqlite: "ck_groups_role_count",
        error: || Error::GroupNeedsRole,
    },
    Constraint {
        sqlite: "ck_roles_rule_count",
        error: too_many_rules,
    },
];

fn too_many_rules() -> Error {
    Error::Invalid(vec![FieldViolation {
        field: "add_rules".to_owned(),
        description: "must not bring the role to more than 1000 rules".to_owned(),
    }])
}

/// A constraint, and what breaking it means.
struct Constraint {
    /// What SQLite calls it: a CHECK by its name, a UNIQUE by its columns.
    sqlite: &'static str,
    /// What breaking it means.
    error: fn() -> Error,
}

/// SQLite's primary result codes (<https://sqlite.org/rescode.html>).
mod code {
    pub(super) const PERM: u32 = 3;
    pub(super) const BUSY: u32 = 5;
    pub(super) const LOCKED: u32 = 6;
    pub(super) const NOMEM: u32 = 7;
    pub(super) const READONLY: u32 = 8;
    pub(super) const INTERRUPT: u32 = 9;
    pub(super) const IOERR: u32 = 10;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const FULL: u32 = 13;
    pub(super) const CANTOPEN: u32 = 14;
    pub(super) const PROTOCOL: u32 = 15;
    pub(super) const CONSTRAINT: u32 = 19;
    pub(super) const NOTADB: u32 = 26;
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        use sqlx::Error as Sqlx;
        match &error {
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => Self::Overloaded(error.into()),
            DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed) => {
                Self::Unavailable(error.into())
            }
            DbErr::Conn(RuntimeErr::SqlxError(cause))
            | DbErr::Exec(RuntimeErr::SqlxError(cause))
            | DbErr::Query(RuntimeErr::SqlxError(cause)) => match cause.as_ref() {
                Sqlx::Database(database) => sqlite(database.as_ref(), &error),
                Sqlx::PoolTimedOut => Self::Overloaded(error.into()),
                Sqlx::Io(_) | Sqlx::PoolClosed | Sqlx::WorkerCrashed | Sqlx::BeginFailed => {
                    Self::Unavailable(error.into())
                }
                _ => Self::Internal(error.into()),
            },
            _ => Self::Internal(error.into()),
        }
    }
}

fn sqlite(database: &dyn sqlx::error::DatabaseError, error: &DbErr) -> Error {
    let extended: u32 = database
        .code()
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    let cause: Cause = error.clone().into();
    match extended & 0xff {
        code::CONSTRAINT => constraint(database.message(), cause),
        // Another process has held the file for longer than the busy timeout.
        code::BUSY | code::LOCKED | code::PROTOCOL => Error::Conflict(cause),
        code::PERM
        | code::NOMEM
        | code::READONLY
        | code::INTERRUPT
        | code::IOERR
        | code::CORRUPT
        | code::FULL
        | code::CANTOPEN
        | code::NOTADB => Error::Unavailable(cause),
        _ => Error::Internal(cause),
    }
}

fn constraint(message: &str, cause: Cause) -> Error {
    // SQLite tells which constraint in its message only: `CHECK constraint failed: NAME`.
    let broken = message.rsplit_once(": ").map_or("", |(_, broken)| broken);
    CONSTRAINTS
        .iter()
        .find(|constraint| constraint.sqlite == broken)
        .map_or_else(|| Error::Internal(cause), |constraint| (constraint.error)())
}
