//! What a database error means: by the driver's code and, for constraints, by one table.

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};

use super::engine::{mysql, postgres, server_error, sqlite};
use crate::{
    domain::FieldViolation,
    error::{Error, Unique},
};

/// The constraints that a request can break. Every other one stands behind a newtype or a statement that
/// keeps it: breaking it is a defect.
const CONSTRAINTS: [Constraint; 5] = [
    Constraint {
        name: "uq_groups_title_key",
        sqlite: "groups.title_key",
        error: || Error::Taken(Unique::GroupTitle),
    },
    Constraint {
        name: "uq_roles_name_key",
        sqlite: "roles.name_key",
        error: || Error::Taken(Unique::RoleName),
    },
    Constraint {
        name: "uq_users_username_key",
        sqlite: "users.username_key",
        error: || Error::Taken(Unique::Username),
    },
    Constraint {
        name: "ck_groups_role_count",
        sqlite: "ck_groups_role_count",
        error: || Error::GroupNeedsRole,
    },
    Constraint {
        name: "ck_roles_rule_count",
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
    name: &'static str,
    /// What SQLite calls it: a CHECK by its name, a UNIQUE by its columns.
    sqlite: &'static str,
    /// What breaking it means.
    error: fn() -> Error,
}

/// What a server's error means.
#[derive(Clone, Copy, Debug)]
pub(super) enum Meaning<'a> {
    /// The constraint of this name is broken.
    Broken(&'a str),
    /// Another transaction was in the way: the whole of this one may be tried again.
    Conflict,
    /// The database can't be reached, or can't do this, for now.
    Unavailable,
    /// A defect of this service.
    Other,
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        use sqlx::Error as Sqlx;
        if let Some(meaning) = meaning(&error) {
            return match meaning {
                Meaning::Broken(constraint) => broken(constraint, &error),
                Meaning::Conflict => Self::Conflict(error.into()),
                Meaning::Unavailable => Self::Unavailable(error.into()),
                Meaning::Other => Self::Internal(error.into()),
            };
        }
        match &error {
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => Self::Overloaded(error.into()),
            DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed) => {
                Self::Unavailable(error.into())
            }
            DbErr::Conn(RuntimeErr::SqlxError(cause))
            | DbErr::Exec(RuntimeErr::SqlxError(cause))
            | DbErr::Query(RuntimeErr::SqlxError(cause)) => match cause.as_ref() {
                Sqlx::PoolTimedOut => Self::Overloaded(error.into()),
                // The connection is lost, or what came through it was cut off.
                Sqlx::Io(_)
                | Sqlx::Tls(_)
                | Sqlx::Protocol(_)
                | Sqlx::PoolClosed
                | Sqlx::WorkerCrashed
                | Sqlx::BeginFailed => Self::Unavailable(error.into()),
                _ => Self::Internal(error.into()),
            },
            _ => Self::Internal(error.into()),
        }
    }
}

/// What a server's error means; nothing if it isn't one.
fn meaning(error: &DbErr) -> Option<Meaning<'_>> {
    let error = server_error(error)?;
    let meaning = if let Some(error) = error.try_downcast_ref() {
        postgres::meaning(error)
    } else if let Some(error) = error.try_downcast_ref() {
        mysql::meaning(error)
    } else {
        sqlite::meaning(error)
    };
    Some(meaning)
}

fn broken(name: &str, error: &DbErr) -> Error {
    CONSTRAINTS
        .iter()
        .find(|constraint| constraint.name == name || constraint.sqlite == name)
        .map_or_else(
            || Error::Internal(error.clone().into()),
            |constraint| (constraint.error)(),
        )
}
