//! Authentication and permission checks before every call.

use std::sync::Arc;

use http::{HeaderMap, header::AUTHORIZATION};

use crate::{
    auth::{AuthenticationError, BearerAuthenticator, Identity},
    domain::Permission,
    error::{Error, Result},
    listen::Peer,
};

/// The permission that each RPC requires.
const RPC_PERMISSIONS: [(Permission, &[&str]); 4] = [
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
/// Open to callers without credentials, because supervisors and load balancers that probe health have none.
const PUBLIC_SERVICE: &str = "grpc.health.v1.Health/";

/// What an RPC requires of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequiredPermission {
    /// No credentials.
    Public,
    /// Valid credentials, but no particular permission. Unknown RPCs require this, so that only authenticated callers
    /// learn which RPCs exist.
    Authenticated,
    /// Valid credentials with this permission.
    Permission(Permission),
}

/// The requirement of the RPC named `package.Service/Method`; `None` if it isn't listed.
pub(super) fn required_permission(rpc: &str) -> Option<RequiredPermission> {
    if rpc.starts_with(PUBLIC_SERVICE) {
        return Some(RequiredPermission::Public);
    }
    let listed = RPC_PERMISSIONS.iter().find(|(_, rpcs)| rpcs.contains(&rpc));
    listed.map(|(permission, _)| RequiredPermission::Permission(*permission))
}

/// Authenticates callers if authentication is required.
#[derive(Clone, Debug)]
pub enum Authorizer {
    /// Authentication is off: every caller may call every RPC.
    Off,
    /// Callers must authenticate.
    Required(Arc<BearerAuthenticator>),
}

impl Authorizer {
    /// Keeps tokens and JWT keys up to date for as long as it is polled.
    pub async fn keep_refreshed(&self) {
        if let Self::Required(authenticator) = self {
            authenticator.refresh_loop().await;
        }
    }

    /// Authenticates the caller; `None` if authentication is off or the RPC is public. Unless `verify` returns true, a
    /// JWT is accepted only if it was verified before.
    ///
    /// # Errors
    /// The credentials are missing or invalid, or the tokens can't be read.
    pub(super) fn identify<B>(
        &self,
        request: &http::Request<B>,
        required: RequiredPermission,
        verify: impl Fn() -> bool,
    ) -> Result<Option<Identity>> {
        let Self::Required(authenticator) = self else {
            return Ok(None);
        };
        if required == RequiredPermission::Public {
            return Ok(None);
        }
        let headers = request.headers();
        // A request with a token is authenticated by that token alone: an invalid token is rejected even if the client
        // certificate is valid.
        let identity = if headers.contains_key(AUTHORIZATION) {
            let token = bearer(headers).ok_or(AuthenticationError::Invalid)?;
            authenticator.identify(token, verify)?
        } else {
            let peer = request.extensions().get::<Peer>();
            let identity = peer.and_then(|peer| peer.identity.clone());
            let identity = identity.ok_or(AuthenticationError::Invalid)?;
            identity.revalidate()?;
            identity
        };
        Ok(Some(identity))
    }
}

impl RequiredPermission {
    /// Rejects an authenticated caller without the permission. `caller` is `None` if authentication is off or the RPC
    /// is public.
    pub(super) fn check(self, caller: Option<&Identity>) -> Result<()> {
        match (self, caller) {
            (Self::Permission(permission), Some(caller)) if !caller.has_permission(permission) => {
                Err(Error::PermissionDenied(permission))
            }
            _ => Ok(()),
        }
    }
}

impl Authorizer {
    /// A future that waits for the next read of the tokens, if the request's token has an unknown id and may be new;
    /// `None` otherwise.
    pub(super) fn wait_for_token_refresh(
        &self,
        headers: &HeaderMap,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        match self {
            Self::Off => None,
            Self::Required(authenticator) => authenticator.wait_for_token_refresh(bearer(headers)?),
        }
    }
}

impl From<AuthenticationError> for Error {
    fn from(error: AuthenticationError) -> Self {
        match error {
            AuthenticationError::Invalid => Self::Unauthenticated,
            AuthenticationError::Unavailable => {
                Self::Unavailable("cannot read tokens from the database".into())
            }
        }
    }
}

/// The bearer token of a request (RFC 6750, section 2.1); `None` unless the request has exactly one `authorization`
/// header with that scheme.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let only = values.next().filter(|_| values.next().is_none())?;
    let (scheme, token) = only.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}
