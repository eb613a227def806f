//! The future of a call, from its request to the head of its response.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep_until};
use tonic::{Status, body::Body};
use tracing::instrument::Instrumented;

use super::{Call, ResponseBody};
use crate::{
    codec::with_reservation,
    grpc::status::{deadline_exceeded, translate_framework_status},
    store::CallerKey,
};

pin_project! {
    /// A call until its response begins. It is written by hand because an `async` block would reserve space for the
    /// response in each of its states, and become larger than what the allocator provides quickly.
    #[project = CallFutureProj]
    pub enum CallFuture<F> {
        /// Waits for the next read of the tokens, as the call's token may be new.
        RefreshingTokens { future: Pin<Box<dyn Future<Output = CallFuture<F>> + Send>> },
        /// The call was rejected.
        Rejected { response: Option<Box<http::Response<ResponseBody>>> },
        /// The inner service handles the call, until the deadline at most. `call` is taken when the response begins.
        Running {
            call: Option<Call>,
            deadline: Option<Duration>,
            caller: Option<CallerKey>,
            timer: Option<Pin<Box<Sleep>>>,
            #[pin]
            response: Instrumented<F>,
        },
    }
}

impl<F> CallFuture<F> {
    pub(super) fn refreshing_tokens(future: impl Future<Output = Self> + Send + 'static) -> Self {
        Self::RefreshingTokens {
            future: Box::pin(future),
        }
    }

    pub(super) fn rejected(call: Call, status: Status) -> Self {
        let response = status.clone().into_http();
        Self::rejected_with(call, &status, response)
    }

    /// Rejects a call: `status` goes to the log and the metrics, `response` to the caller.
    pub(super) fn rejected_with(
        mut call: Call,
        status: &Status,
        response: http::Response<Body>,
    ) -> Self {
        call.end(status, status.code());
        let reservation = call.reservation();
        let response = response.map(|body| ResponseBody::tracked(body, None, reservation));
        Self::Rejected {
            response: Some(response.into()),
        }
    }

    pub(super) fn running(call: Call, response: F, deadline: Option<Duration>) -> Self {
        let response = call.instrument(response);
        let caller = call.caller();
        Self::Running {
            call: Some(call),
            deadline,
            caller,
            timer: None,
            response,
        }
    }
}

impl<F, E> Future for CallFuture<F>
where
    F: Future<Output = Result<http::Response<Body>, E>>,
{
    type Output = Result<http::Response<ResponseBody>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let CallFutureProj::RefreshingTokens { future } = self.as_mut().project() {
            let future = ready!(future.as_mut().poll(cx));
            self.set(future);
        }
        let (call, deadline, caller, timer, response) = match self.project() {
            // Not reached: the future above never resolves to another `RefreshingTokens`.
            CallFutureProj::RefreshingTokens { .. } => return Poll::Pending,
            CallFutureProj::Rejected { response } => {
                return match response.take() {
                    Some(response) => Poll::Ready(Ok(*response)),
                    // Polled again after it was ready.
                    None => Poll::Pending,
                };
            }
            CallFutureProj::Running {
                call,
                deadline,
                caller,
                timer,
                response,
            } => (call, *deadline, *caller, timer, response),
        };
        let reservation = call.as_ref().and_then(Call::reservation);
        let poll = || with_reservation(reservation, || response.poll(cx));
        let polled = match caller {
            Some(caller) => caller.scope(poll),
            None => poll(),
        };
        let mut response = match (polled, deadline) {
            (Poll::Ready(response), _) => response?,
            (Poll::Pending, None) => return Poll::Pending,
            // The timer is created only if the response isn't ready at the first poll.
            (Poll::Pending, Some(deadline)) => {
                let Some(deadline) = call.as_ref().and_then(|call| call.deadline_after(deadline))
                else {
                    return Poll::Pending;
                };
                let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                ready!(timer.as_mut().poll(cx));
                deadline_exceeded().into_http()
            }
        };
        let Some(mut call) = call.take() else {
            // Polled again after it was ready.
            return Poll::Pending;
        };
        let reservation = call.reservation();
        if let Some(reservation) = &reservation {
            reservation.release_decoded();
        }
        // An error before the first message is sent in the headers, and tonic keeps the whole `Status`, with its
        // source, in the extensions. Any other status comes in the body's trailers.
        let status = response.extensions_mut().remove::<Status>();
        let status = status.or_else(|| Status::from_header_map(response.headers()));
        let call = match status {
            Some(status) => {
                let translated = translate_framework_status(&status);
                call.end(&status, translated.as_ref().unwrap_or(&status).code());
                if let Some(translated) = translated {
                    response = translated.into_http();
                }
                None
            }
            None => Some(call),
        };
        Poll::Ready(Ok(
            response.map(|inner| ResponseBody::tracked(inner, call, reservation))
        ))
    }
}
