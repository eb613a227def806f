//! Who calls, and whether the call is let in.

use tonic::body::Body;

use super::{Call, ObserveLayer};
use crate::{
    auth::Identity,
    error::{Error, Result},
    grpc::{
        guard::Need,
        rate::{Rate, TooOften},
    },
    listen::Peer,
};

impl ObserveLayer {
    /// Who calls, if that is asked for. Nothing is verified for an address from where calls fail too often.
    pub(super) fn identify(
        &self,
        request: &http::Request<Body>,
        need: Need,
    ) -> Result<Option<Identity>> {
        let peer = request.extensions().get::<Peer>();
        let verify = || self.rate.as_ref().is_none_or(|rate| !rate.is_used_up(peer));
        self.guard.identify(request, need, verify)
    }

    /// Waits until a new token is known, if that may be why a caller isn't; none otherwise.
    pub(super) fn look_up(
        &self,
        request: &http::Request<Body>,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let peer = request.extensions().get::<Peer>();
        if self.rate.as_ref().is_some_and(|rate| rate.is_used_up(peer)) {
            return None;
        }
        self.guard.look_up(request.headers())
    }

    /// Whether a call is let in. Its caller is noted first, so that the log names the caller of each refusal.
    pub(super) fn admit(
        &self,
        call: &mut Call,
        request: &http::Request<Body>,
        identity: Result<Option<Identity>>,
        need: Need,
    ) -> Result<Option<Identity>> {
        let peer = request.extensions().get::<Peer>();
        let identity = match identity {
            Err(Error::Unauthenticated) => {
                self.count(call, |rate| rate.count_address(peer))?;
                return Err(Error::Unauthenticated);
            }
            identity => identity?,
        };
        if let Some(identity) = &identity {
            call.is_of(identity.clone());
        }
        match &identity {
            _ if need == Need::Nothing => {}
            Some(caller) => {
                self.count(call, |rate| rate.count_caller(caller.key()))?;
            }
            None => self.count(call, |rate| rate.count_address(peer))?,
        }
        need.check(identity.as_ref())?;
        if let Some(peer) = peer {
            call.begin_load(&peer.carrier, need, request.headers())?;
        }
        Ok(identity)
    }

    /// Counts a call against `--max-rate`. Refusals are logged once a second for each caller or address.
    pub(super) fn count(
        &self,
        call: &mut Call,
        count: impl FnOnce(&Rate) -> Result<(), TooOften>,
    ) -> Result<()> {
        let Some(rate) = self.rate.as_deref() else {
            return Ok(());
        };
        count(rate).map_err(|refused| {
            if refused.logged {
                call.is_repeated();
            }
            refused.into()
        })
    }
}
