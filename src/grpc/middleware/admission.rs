//! Authentication and admission of calls.

use tonic::body::Body;

use super::{Call, CallLayer};
use crate::{
    auth::Identity,
    error::{Error, Result},
    grpc::{
        authorization::RequiredPermission,
        rate_limit::{RateLimited, RateLimiter},
    },
    listen::Peer,
};

impl CallLayer {
    /// Authenticates the caller; `None` if authentication is off or the RPC is public. No signature is verified for an
    /// address that has exhausted its rate limit of failed calls.
    pub(super) fn identify(
        &self,
        request: &http::Request<Body>,
        required: RequiredPermission,
    ) -> Result<Option<Identity>> {
        let peer = request.extensions().get::<Peer>();
        let verify = || {
            self.rate_limiter
                .as_ref()
                .is_none_or(|rate_limiter| !rate_limiter.is_exhausted(peer))
        };
        self.authorizer.identify(request, required, verify)
    }

    /// A future that waits for the next read of the tokens, if the request's token may be new; `None` otherwise, or if
    /// the address has exhausted its rate limit.
    pub(super) fn wait_for_token_refresh(
        &self,
        request: &http::Request<Body>,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let peer = request.extensions().get::<Peer>();
        if self
            .rate_limiter
            .as_ref()
            .is_some_and(|rate_limiter| rate_limiter.is_exhausted(peer))
        {
            return None;
        }
        self.authorizer.wait_for_token_refresh(request.headers())
    }

    /// Checks the call's rate limit, permission and memory. The caller is recorded first, so that the log names it for
    /// every rejection.
    pub(super) fn admit(
        &self,
        call: &mut Call,
        request: &http::Request<Body>,
        identity: Result<Option<Identity>>,
        required: RequiredPermission,
    ) -> Result<Option<Identity>> {
        let peer = request.extensions().get::<Peer>();
        let identity = match identity {
            Err(Error::Unauthenticated) => {
                self.check_rate(call, |rate_limiter| rate_limiter.check_address(peer))?;
                return Err(Error::Unauthenticated);
            }
            identity => identity?,
        };
        if let Some(identity) = &identity {
            call.set_identity(identity.clone());
        }
        match &identity {
            _ if required == RequiredPermission::Public => {}
            Some(caller) => {
                self.check_rate(call, |rate_limiter| rate_limiter.check_caller(caller.key()))?;
            }
            None => self.check_rate(call, |rate_limiter| rate_limiter.check_address(peer))?,
        }
        required.check(identity.as_ref())?;
        if let Some(peer) = peer {
            call.reserve_memory(&peer.connection, required, request.headers())?;
        }
        Ok(identity)
    }

    /// Counts a call against `--max-rate`. Rejections are logged once a second for each caller or address.
    pub(super) fn check_rate(
        &self,
        call: &mut Call,
        count: impl FnOnce(&RateLimiter) -> Result<(), RateLimited>,
    ) -> Result<()> {
        let Some(rate_limiter) = self.rate_limiter.as_deref() else {
            return Ok(());
        };
        count(rate_limiter).map_err(|refused| {
            if refused.recently_logged {
                call.suppress_log();
            }
            refused.into()
        })
    }
}
