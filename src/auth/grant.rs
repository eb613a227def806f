use std::sync::Arc;

use tokio_rustls::rustls::pki_types::CertificateDer;

use super::{
    Credential, Identity, Proof, Who,
    certificate::{Certified, has_dot_segments, subject},
};
use crate::{
    domain::{Caller, Permissions},
    tls::Authorities,
};

/// What callers may do who are known by certificates or JWTs.
#[derive(Clone, Debug, Default)]
pub struct Grants(Arc<[Grant]>);

/// What a caller may do, or several: a `*` at its end stands for anything.
#[derive(Clone, Debug)]
pub struct Grant {
    credential: Option<Credential>,
    callers: String,
    permissions: Permissions,
}

impl Grant {
    /// Reads a grant: `CALLER=PERMISSIONS`, where `certificate:` or `jwt:` before the caller says by which of them it is
    /// known.
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
        let of_a_kind = kinds
            .into_iter()
            .find_map(|(prefix, credential)| Some((callers.strip_prefix(prefix)?, credential)));
        Ok(Self {
            credential: of_a_kind.map(|(_, credential)| credential),
            callers: of_a_kind.map_or(callers, |(callers, _)| callers).to_owned(),
            permissions: Permissions::parse(permissions)?,
        })
    }

    /// Whether it says by what its callers are known.
    #[must_use]
    pub fn names_credential(&self) -> bool {
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

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        Self(grants.into_iter().collect())
    }
}

impl Grants {
    /// Whom a certificate that was verified names, with the chain that it came with.
    pub(crate) fn identify(
        &self,
        chain: &[CertificateDer<'static>],
        authorities: Authorities,
    ) -> Option<Identity> {
        let Some((caller, expires)) = subject(chain) else {
            tracing::debug!("a certificate doesn't name exactly one caller, in canonical form");
            return None;
        };
        let who = Arc::new(self.who(caller, Credential::Certificate));
        let certified = Certified::new(chain, expires, authorities);
        let proof = Proof::Certificate(Arc::new(certified));
        Some(Identity { who, proof })
    }

    /// A caller, with what it may do.
    pub(super) fn who(&self, caller: Caller, credential: Credential) -> Who {
        let is_for = |grant: &&Grant| grant.is_for(caller.as_str(), credential);
        let granted = self.0.iter().filter(is_for);
        let permissions =
            granted.fold(Permissions::NONE, |some, grant| some.and(grant.permissions));
        Who::new(caller, permissions, credential)
    }
}
