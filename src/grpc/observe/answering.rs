//! The time from a call's request to the beginning of its answer.

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

use super::{Call, ObservedBody};
use crate::{
    codec::with_load,
    grpc::status::{deadline_exceeded, refine},
    store::CallerKey,
};

pin_project! {
    /// A call that is being answered. By hand rather than `async`: that would keep room for what is answered in each
    /// of its states, and be larger than what memory is quickly had for.
    #[project = Now]
    pub enum Answering<F> {
        /// It is looked up whether its token is a new one.
        LookingUp { admitted: Pin<Box<dyn Future<Output = Answering<F>> + Send>> },
        /// It isn't let in.
        Refused { response: Option<Box<http::Response<ObservedBody>>> },
        /// It is carried out, until its deadline at most; the call is taken when it is answered.
        UnderWay {
            call: Option<Call>,
            deadline: Option<Duration>,
            caller: Option<CallerKey>,
            timer: Option<Pin<Box<Sleep>>>,
            #[pin]
            response: Instrumented<F>,
        },
    }
}

impl<F> Answering<F> {
    pub(super) fn looking_up(admitted: impl Future<Output = Self> + Send + 'static) -> Self {
        Self::LookingUp {
            admitted: Box::pin(admitted),
        }
    }

    pub(super) fn refused(call: Call, status: Status) -> Self {
        let response = status.clone().into_http();
        Self::refused_with(call, &status, response)
    }

    /// Refuses what has the call's status in the log and the metrics, and gets this response.
    pub(super) fn refused_with(
        mut call: Call,
        status: &Status,
        response: http::Response<Body>,
    ) -> Self {
        call.end(status, status.code());
        let load = call.load();
        let response = response.map(|body| ObservedBody::observed(body, None, load));
        Self::Refused {
            response: Some(response.into()),
        }
    }

    pub(super) fn under_way(call: Call, response: F, deadline: Option<Duration>) -> Self {
        let response = call.instrument(response);
        let caller = call.caller();
        Self::UnderWay {
            call: Some(call),
            deadline,
            caller,
            timer: None,
            response,
        }
    }
}

impl<F, E> Future for Answering<F>
where
    F: Future<Output = Result<http::Response<Body>, E>>,
{
    type Output = Result<http::Response<ObservedBody>, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Now::LookingUp { admitted } = self.as_mut().project() {
            let admitted = ready!(admitted.as_mut().poll(cx));
            self.set(admitted);
        }
        let (call, deadline, caller, timer, response) = match self.project() {
            // It was looked up just now, and isn't again.
            Now::LookingUp { .. } => return Poll::Pending,
            Now::Refused { response } => {
                return match response.take() {
                    Some(response) => Poll::Ready(Ok(*response)),
                    // It was answered before.
                    None => Poll::Pending,
                };
            }
            Now::UnderWay {
                call,
                deadline,
                caller,
                timer,
                response,
            } => (call, *deadline, *caller, timer, response),
        };
        let load = call.as_ref().and_then(Call::load);
        let poll = || with_load(load, || response.poll(cx));
        let polled = match caller {
            Some(caller) => caller.scope(poll),
            None => poll(),
        };
        let mut response = match (polled, deadline) {
            (Poll::Ready(response), _) => response?,
            (Poll::Pending, None) => return Poll::Pending,
            // What is answered at once needs no timer.
            (Poll::Pending, Some(deadline)) => {
                let Some(deadline) = call.as_ref().and_then(|call| call.began_plus(deadline))
                else {
                    return Poll::Pending;
                };
                let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
                ready!(timer.as_mut().poll(cx));
                deadline_exceeded().into_http()
            }
        };
        let Some(mut call) = call.take() else {
            // It was answered before.
            return Poll::Pending;
        };
        let load = call.load();
        if let Some(load) = &load {
            load.responded();
        }
        // An error before the first message stands in the headers, and handlers leave the whole of it,
        // with its cause, beside them. All else ends with the body's trailers.
        let status = response.extensions_mut().remove::<Status>();
        let status = status.or_else(|| Status::from_header_map(response.headers()));
        let call = match status {
            Some(status) => {
                let refined = refine(&status);
                call.end(&status, refined.as_ref().unwrap_or(&status).code());
                if let Some(refined) = refined {
                    response = refined.into_http();
                }
                None
            }
            None => Some(call),
        };
        Poll::Ready(Ok(
            response.map(|inner| ObservedBody::observed(inner, call, load))
        ))
    }
}
