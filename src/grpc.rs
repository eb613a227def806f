//! The edge: a file a service, each RPC as convert, one store call, convert.

mod access;
mod change;
mod group;
mod guard;
mod observe;
mod origin;
mod page;
mod rate;
mod role;
mod rule;
mod status;
mod user;

pub use access::Access;
pub use change::Changes;
pub use group::Groups;
pub use guard::Guard;
#[cfg(fuzzing)]
pub(crate) use guard::bearer;
pub use observe::{Deadlines, Decoding, Methods, ObserveLayer};
pub use rate::Rate;
pub use role::Roles;
pub use user::Users;

use crate::domain::Timestamp;

/// The domain of every `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "groups.v1";

fn timestamp(time: Timestamp) -> prost_types::Timestamp {
    let micros = time.micros();
    prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        // 0..=999_999_000: always fits.
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap_or_default(),
    }
}
