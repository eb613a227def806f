//! Before every call: who calls, and whether they may.

use std::sync::Arc;

use http::{HeaderMap, header::AUTHORIZATION};

use crate::{
    auth::{Bearers, Identity, Refusal},
    domain::Permission,
    error::{Error, Result},
    listen::Peer,
};

/// What each RPC needs.
const TABLE: [(Permission, &[&str]); 4] = [
    (
        Permission::Read,
        &[
            "groups.v1.AccessService/ListUsersWithAccess",
            "groups.v1.GroupService/GetGroup",
            "groups.v1.GroupService/ListGroups",
            "groups.v1.GroupService/ListRolesInGroup",
            "groups.v1.GroupService/ListUsersInGroup",
            "groups.v1.RoleService/GetRole",
            "groups.v1.RoleService/ListRoles",
            "groups.v1.UserService/GetUser",
            "groups.v1.UserService/ListRolesOfUser",
            "groups.v1.UserService/ListUsers",
            "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        ],
    ),
    (
        Permission::Check,
        &[
            "groups.v1.AccessService/BatchCheckAccess",
            "groups.v1.AccessService/CheckAccess",
        ],
    ),
    (
        Permission::Write,
        &[
            "groups.v1.GroupService/AssignUser",
            "groups.v1.GroupService/BatchAssignUsers",
            "groups.v1.GroupService/BatchUnassignUsers",
            "groups.v1.GroupService/CreateGroup",
            "groups.v1.GroupService/DeleteGroup",
            "groups.v1.GroupService/UnassignUser",
            "groups.v1.GroupService/UpdateGroup",
            "groups.v1.RoleService/CreateRole",
            "groups.v1.RoleService/DeleteRole",
            "groups.v1.RoleService/UpdateRole",
            "groups.v1.UserService/CreateUser",
            "groups.v1.UserService/DeleteUser",
            "groups.v1.UserService/UpdateUser",
        ],
    ),
    (
        Permission::Audit,
        &[
            "groups.v1.ChangeService/ListChanges",
            "groups.v1.ChangeService/WatchChanges",
        ],
    ),
];
/// Whoever looks after the process asks for its health, and has no credentials.
const FREE: &str = "grpc.health.v1.Health/";

/// What a caller needs for an RPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing.
    Nothing,
    /// To be known. Whoever asks for what isn't there learns so only then.
    Identity,
    /// To have a permission.
    Permission(Permission),
}

/// What the RPC of this name, `package.Service/Method`, needs; nothing if nobody has said so.
pub(super) fn need(rpc: &str) -> Option<Need> {
    if rpc.starts_with(FREE) {
        return Some(Need::Nothing);
    }
    let listed = TABLE.iter().find(|(_, rpcs)| rpcs.contains(&rpc));
    listed.map(|(permission, _)| Need::Permission(*permission))
}

/// Lets those in who may come in.
#[derive(Clone, Debug)]
pub enum Guard {
    /// Everybody may do everything.
    Off,
    /// Callers must be known.
    Required(Arc<Bearers>),
}

impl Guard {
    /// Goes on finding out who may come in.
    pub async fn keep_up(&self) {
        if let Self::Required(bearers) = self {
            bearers.follow().await;
        }
    }

    /// Who calls, if that is asked for. Only a caller who is known without a signature being verified counts as known
    /// unless `verify` says so.
    pub(super) fn identify<B>(
        &self,
        request: &http::Request<B>,
        need: Need,
        verify: impl Fn() -> bool,
    ) -> Result<Option<Identity>> {
        let Self::Required(bearers) = self else {
            return Ok(None);
        };
        if need == Need::Nothing {
            return Ok(None);
        }
        let headers = request.headers();
        // Whoever sends a token wants to be known by that: one that is no good isn't passed over.
        let identity = if headers.contains_key(AUTHORIZATION) {
            let token = bearer(headers).ok_or(Refusal::Invalid)?;
            bearers.identify(token, verify)?
        } else {
            let peer = request.extensions().get::<Peer>();
            let identity = peer.and_then(|peer| peer.identity.clone());
            let identity = identity.ok_or(Refusal::Invalid)?;
            identity.check()?;
            identity
        };
        Ok(Some(identity))
    }
}

impl Need {
    /// Whether a caller may, if callers are known.
    pub(super) fn check(self, caller: Option<&Identity>) -> Result<()> {
        match (self, caller) {
            (Self::Permission(permission), Some(caller)) if !caller.may(permission) => {
                Err(Error::NotPermitted(permission))
            }
            _ => Ok(()),
        }
    }
}

impl Guard {
    /// Waits until a new token is known, if that may be why the call isn't let in; none otherwise.
    pub(super) fn look_up(
        &self,
        headers: &HeaderMap,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        match self {
            Self::Off => None,
            Self::Required(bearers) => bearers.look_up(bearer(headers)?),
        }
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid => Self::Unauthenticated,
            Refusal::Unavailable => Self::Unavailable("tokens can't be read".into()),
        }
    }
}

/// The token of a request: the only one that it has (RFC 6750, section 2.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}
