//! The gRPC API: one file per service. Each RPC converts the request, makes one store call and converts the result.

mod access;
mod authorization;
mod change;
mod group;
mod middleware;
mod page;
mod rate_limit;
mod request_context;
mod role;
mod rule;
mod status;
mod user;

pub use access::Access;
pub use authorization::Authorizer;
#[cfg(fuzzing)]
pub(crate) use authorization::bearer;
pub use change::Changes;
pub use group::Groups;
pub use middleware::{CallLayer, Deadlines, DecodeLimiter, RpcTable};
pub use rate_limit::RateLimiter;
pub use role::Roles;
pub use user::Users;

use crate::domain::Timestamp;

/// The domain of every `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "groups.v1";

fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.micros();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        // At most 999_999_000, so it always fits.
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap_or_default(),
    }
}
