//! The context of a write: the actor, and the idempotency key.

mod canonical;

use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Request;

use crate::{
    auth::Identity,
    domain::{Actor, Permission, RequestId, Violations},
    error::Error,
    store::{IdempotencyKey, RequestContext, StoredResponse},
};

/// The metadata key that names the actor.
const ACTOR_HEADER: &str = "x-actor";

/// A request that writes.
pub(super) trait WriteRequest: Message + Clone {
    /// The message's name, which distinguishes its fingerprint from those of other requests.
    const REQUEST_TYPE: &str;

    /// The caller's `request_id`; empty if it gave none.
    fn request_id(&self) -> &str;

    /// The canonical form, which is the same for all equivalent requests.
    fn canonical(self) -> Self;
}

/// Converts a request into its command and its context. The actor is the caller, unless the caller has the permission
/// to act for others and names another actor.
///
/// # Errors
/// All violations of the command and the context, or a missing permission to act for others.
pub(super) fn parse_write<M: WriteRequest, C>(
    request: Request<M>,
) -> Result<(C, RequestContext), Error>
where
    C: TryFrom<M, Error = Error>,
{
    let mut violations = Violations::default();
    let identity = request.extensions().get::<Identity>();
    let mut actors = request.metadata().get_all(ACTOR_HEADER).iter();
    let (actor, another) = (actors.next(), actors.next());
    let actor = match (actor, identity) {
        (Some(_), Some(identity)) if !identity.has_permission(Permission::ActAs) => {
            return Err(Error::PermissionDenied(Permission::ActAs));
        }
        (Some(_), _) if another.is_some() => {
            violations.check(ACTOR_HEADER, Err("must not be given twice"))
        }
        (Some(actor), _) => {
            let actor = actor.to_str().map_err(|_| "must be ASCII".to_owned());
            violations.check(ACTOR_HEADER, actor.and_then(Actor::parse))
        }
        (None, Some(identity)) => Some(identity.caller().into()),
        (None, None) => Some(Actor::default()),
    };
    let message = request.into_inner();
    let id: Option<Option<RequestId>> = violations.optional_id("request_id", message.request_id());
    let idempotency_key = id.flatten().map(|id| IdempotencyKey {
        id,
        fingerprint: digest(&message.clone().canonical(), actor.as_ref()),
        raw_fingerprint: digest(&message, actor.as_ref()),
    });
    let command = C::try_from(message);
    match (actor, id, command) {
        (Some(actor), Some(_), Ok(command)) => Ok((
            command,
            RequestContext {
                actor,
                idempotency_key,
            },
        )),
        (_, _, Err(Error::Invalid(mut found))) => {
            found.extend(violations.into_vec());
            Err(Error::Invalid(found))
        }
        (_, _, Err(error)) => Err(error),
        _ => Err(violations.into()),
    }
}

/// A fingerprint of the request's type, actor and content.
fn digest<M: WriteRequest>(message: &M, actor: Option<&Actor>) -> [u8; 32] {
    let actor = actor.map_or("", Actor::as_str);
    let mut digest = Sha256::new();
    for part in [
        M::REQUEST_TYPE.as_bytes(),
        actor.as_bytes(),
        &message.encode_to_vec(),
    ] {
        digest.update(part.len().to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// Responses are stored as they are sent.
impl<M: Message + Default + 'static> StoredResponse for M {
    fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Self::decode(bytes).ok()
    }
}

macro_rules! without_request_id {
    ($($name:ident)+) => {$(
        impl WriteRequest for crate::pb::$name {
            const REQUEST_TYPE: &str = stringify!($name);

            /// Empty, because repeating a deletion finds nothing left to delete.
            fn request_id(&self) -> &str {
                ""
            }

            fn canonical(self) -> Self {
                self
            }
        }
    )+};
}

without_request_id! { DeleteGroupRequest DeleteRoleRequest DeleteUserRequest }
