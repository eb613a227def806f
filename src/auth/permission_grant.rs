use std::sync::Arc;

use tokio_rustls::rustls::pki_types::CertificateDer;

use super::{
    Credential, Identity, Principal, Proof,
    certificate::{VerifiedCertificate, has_dot_segments, subject},
};
use crate::{
    domain::{Caller, Permissions},
    tls::ClientAuthorities,
};

/// Permissions of callers that are identified by certificates or JWTs.
#[derive(Clone, Debug, Default)]
pub struct PermissionGrants(Arc<[PermissionGrant]>);

/// Grants permissions to a caller, or to several: a `*` at the end of `callers` matches any other characters.
#[derive(Clone, Debug)]
pub struct PermissionGrant {
    credential: Option<Credential>,
    callers: String,
    permissions: Permissions,
}

impl PermissionGrant {
    /// Parses a grant: `CALLER=PERMISSIONS`. A prefix `certificate:` or `jwt:` before the caller restricts it to that
    /// kind of credential.
    ///
    /// # Errors
    /// What is wrong with it, for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (callers, permissions) = text
            .rsplit_once('=')
            .ok_or("it must be CALLER=PERMISSIONS, such as spiffe://shop/till=check,read")?;
        let kinds = [
            ("certificate:", Credential::Certificate),
            ("jwt:", Credential::Jwt),
        ];
        let prefixed = kinds
            .into_iter()
            .find_map(|(prefix, credential)| Some((callers.strip_prefix(prefix)?, credential)));
        Ok(Self {
            credential: prefixed.map(|(_, credential)| credential),
            callers: prefixed.map_or(callers, |(callers, _)| callers).to_owned(),
            permissions: Permissions::parse(permissions)?,
        })
    }

    /// Whether the grant is restricted to a kind of credential.
    #[must_use]
    pub fn restricts_credential(&self) -> bool {
        self.credential.is_some()
    }

    fn is_for(&self, caller: &str, credential: Credential) -> bool {
        if self.credential.is_some_and(|only| only != credential) {
            return false;
        }
        match self.callers.strip_suffix('*') {
            Some(beginning) => caller
                .strip_prefix(beginning)
                .is_some_and(|rest| !rest.is_empty() && !has_dot_segments(rest)),
            None => caller == self.callers,
        }
    }
}

impl FromIterator<PermissionGrant> for PermissionGrants {
    fn from_iter<I: IntoIterator<Item = PermissionGrant>>(grants: I) -> Self {
        Self(grants.into_iter().collect())
    }
}

impl PermissionGrants {
    /// The caller that a verified certificate chain identifies; `None` if the certificate doesn't name exactly one
    /// caller.
    pub(crate) fn identify(
        &self,
        chain: &[CertificateDer<'static>],
        authorities: ClientAuthorities,
    ) -> Option<Identity> {
        let Some((caller, expires)) = subject(chain) else {
            tracing::debug!(
                "client certificate rejected: it must name exactly one caller in canonical form"
            );
            return None;
        };
        let principal = Arc::new(self.principal(caller, Credential::Certificate));
        let certificate = VerifiedCertificate::new(chain, expires, authorities);
        let proof = Proof::Certificate(Arc::new(certificate));
        Some(Identity { principal, proof })
    }

    /// The principal of a caller, with all permissions that are granted to it.
    pub(super) fn principal(&self, caller: Caller, credential: Credential) -> Principal {
        let is_for = |grant: &&PermissionGrant| grant.is_for(caller.as_str(), credential);
        let granted = self.0.iter().filter(is_for);
        let permissions = granted.fold(Permissions::NONE, |some, grant| {
            some.union(grant.permissions)
        });
        Principal::new(caller, permissions, credential)
    }
}
