use std::sync::Arc;

use super::{Identity, Proof, Who};
use crate::domain::{Caller, Permissions};

/// What callers may do who are known by certificates or JWTs.
#[derive(Clone, Debug, Default)]
pub struct Grants(Arc<[Grant]>);

/// What a caller may do, or several: a `*` at its end stands for anything.
#[derive(Clone, Debug)]
pub struct Grant {
    callers: String,
    permissions: Permissions,
}

impl Grant {
    /// Reads a grant: `CALLER=PERMISSIONS`.
    ///
    /// # Errors
    /// What is wrong with it, for the operator.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (callers, permissions) = text
            .rsplit_once('=')
            .ok_or("it must be CALLER=PERMISSIONS, such as spiffe://shop/till=check,read")?;
        Ok(Self {
            callers: callers.to_owned(),
            permissions: Permissions::parse(permissions)?,
        })
    }

    fn is_for(&self, caller: &str) -> bool {
        match self.callers.strip_suffix('*') {
            Some(beginning) => caller.starts_with(beginning),
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
    /// Whom a certificate of this name is of.
    pub(crate) fn identify(&self, name: &str) -> Option<Identity> {
        let who = Arc::new(self.who(Caller::parse(name).ok()?));
        let proof = Proof::Certificate;
        Some(Identity { who, proof })
    }

    /// A caller, with what it may do.
    pub(super) fn who(&self, caller: Caller) -> Who {
        let granted = self.0.iter().filter(|grant| grant.is_for(caller.as_str()));
        let permissions =
            granted.fold(Permissions::NONE, |some, grant| some.and(grant.permissions));
        Who::new(caller, permissions)
    }
}
