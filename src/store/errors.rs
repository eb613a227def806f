//! Maps database errors to [`Error`]: by the driver's error code, and constraint violations by one table.

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};

use super::engine::{mysql, postgres, server_error, sqlite};
use crate::{
    domain::FieldViolation,
    error::{Error, UniqueField},
};

/// The constraints that a request can violate. All others are upheld by newtypes or by the statements: violating one is
/// a defect of this service.
const CONSTRAINTS: [Constraint; 5] = [
    Constraint {
        name: "uq_groups_title_key",
        sqlite: "groups.title_key",
        error: || Error::AlreadyExists(UniqueField::GroupTitle),
    },
    Constraint {
        name: "uq_roles_name_key",
        sqlite: "roles.name_key",
        error: || Error::AlreadyExists(UniqueField::RoleName),
    },
    Constraint {
        name: "uq_users_username_key",
        sqlite: "users.username_key",
        error: || Error::AlreadyExists(UniqueField::Username),
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

/// A constraint, and the error that a violation maps to.
struct Constraint {
    name: &'static str,
    /// SQLite's name for it: a CHECK by its name, a UNIQUE by its columns.
    sqlite: &'static str,
    error: fn() -> Error,
}

/// The class of a server's error.
#[derive(Clone, Copy, Debug)]
pub(super) enum ErrorClass<'a> {
    /// The constraint of this name is violated.
    ConstraintViolation(&'a str),
    /// A conflict with another transaction: the whole transaction can be retried.
    Conflict,
    /// The database can't be reached, or can't execute this, for now.
    Unavailable,
    /// A defect of this service.
    Other,
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        use sqlx::Error as Sqlx;
        if let Some(classify) = classify(&error) {
            return match classify {
                ErrorClass::ConstraintViolation(constraint) => constraint_error(constraint, &error),
                ErrorClass::Conflict => Self::Conflict(error.into()),
                ErrorClass::Unavailable => Self::Unavailable(error.into()),
                ErrorClass::Other => Self::Internal(error.into()),
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
                // The connection was lost or its data was truncated.
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

/// Classifies a server's error; `None` for errors that don't come from the server.
fn classify(error: &DbErr) -> Option<ErrorClass<'_>> {
    let error = server_error(error)?;
    let classify = if let Some(error) = error.try_downcast_ref() {
        postgres::classify(error)
    } else if let Some(error) = error.try_downcast_ref() {
        mysql::classify(error)
    } else {
        sqlite::classify(error)
    };
    Some(classify)
}

fn constraint_error(name: &str, error: &DbErr) -> Error {
    CONSTRAINTS
        .iter()
        .find(|constraint| constraint.name == name || constraint.sqlite == name)
        .map_or_else(
            || Error::Internal(error.clone().into()),
            |constraint| (constraint.error)(),
        )
}
