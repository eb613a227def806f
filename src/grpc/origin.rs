//! What comes with a write beside its command: who gives it, and what tells it when it is sent again.

mod canonical;

use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Request;

use crate::{
    auth::Identity,
    domain::{Actor, Permission, RequestId, Violations},
    error::Error,
    store::{Once, Origin, Reply},
};

/// The metadata key that names the actor.
const ACTOR: &str = "x-actor";

/// A request of a write.
pub(super) trait WriteRequest: Message + Clone {
    /// What tells it from requests of other kinds.
    const KIND: &str;

    /// The id that the caller gave it; empty if none.
    fn request_id(&self) -> &str;

    /// The one form of all requests that mean the same.
    fn canonical(self) -> Self;
}

/// Takes a request apart: the command, and where it comes from. Tells every violation of both. The actor is the
/// caller, unless one who may act for others names another.
pub(super) fn accept<M: WriteRequest, C>(request: Request<M>) -> Result<(C, Origin), Error>
where
    C: TryFrom<M, Error = Error>,
{
    let mut violations = Violations::default();
    let identity = request.extensions().get::<Identity>();
    let mut actors = request.metadata().get_all(ACTOR).iter();
    let (actor, another) = (actors.next(), actors.next());
    let actor = match (actor, identity) {
        (Some(_), Some(identity)) if !identity.may(Permission::ActAs) => {
            return Err(Error::NotPermitted(Permission::ActAs));
        }
        (Some(_), _) if another.is_some() => {
            violations.check(ACTOR, Err("must not be given twice"))
        }
        (Some(actor), _) => {
            let actor = actor.to_str().map_err(|_| "must be ASCII".to_owned());
            violations.check(ACTOR, actor.and_then(Actor::parse))
        }
        (None, Some(identity)) => Some(identity.caller().into()),
        (None, None) => Some(Actor::default()),
    };
    let message = request.into_inner();
    let id: Option<Option<RequestId>> = violations.optional_id("request_id", message.request_id());
    let once = id.flatten().map(|id| Once {
        id,
        fingerprint: digest(&message.clone().canonical(), actor.as_ref()),
        as_sent: digest(&message, actor.as_ref()),
    });
    let command = C::try_from(message);
    match (actor, id, command) {
        (Some(actor), Some(_), Ok(command)) => Ok((command, Origin { actor, once })),
        (_, _, Err(Error::Invalid(mut found))) => {
            found.extend(violations.into_vec());
            Err(Error::Invalid(found))
        }
        (_, _, Err(error)) => Err(error),
        _ => Err(violations.into()),
    }
}

/// A digest of who asks for what.
fn digest<M: WriteRequest>(message: &M, actor: Option<&Actor>) -> [u8; 32] {
    let actor = actor.map_or("", Actor::as_str);
    let mut digest = Sha256::new();
    for part in [
        M::KIND.as_bytes(),
        actor.as_bytes(),
        &message.encode_to_vec(),
    ] {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// What callers are answered is kept as they get it.
impl<M: Message + Default + 'static> Reply for M {
    fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::decode(bytes).ok()
    }
}

macro_rules! without_id {
    ($($name:ident)+) => {$(
        impl WriteRequest for crate::pb::$name {
            const KIND: &str = stringify!($name);

            /// Deleting again finds nothing left to delete.
            fn request_id(&self) -> &str {
                ""
            }

            fn canonical(self) -> Self {
                self
            }
        }
    )+};
}

without_id! { DeleteGroupRequest DeleteRoleRequest DeleteUserRequest }
