//! The time from a call's request to the beginning of its answer.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tonic::{Status, body::Body};
use tracing::instrument::Instrumented;

use super::{Call, ObservedBody};
use crate::grpc::status::{deadline_exceeded, refine};

pin_project! {
    /// A call that is being answered. By hand rather than `async`: that would keep room for what is answered in each
    /// of its states, and be larger than what memory is quickly had for.
    #[derive(Debug)]
    pub struct Answering<F> {
        call: Option<Call>,
        deadline: Option<Duration>,
        timer: Option<Pin<Box<Sleep>>>,
        #[pin]
        answer: Answer<F>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = AnswerNow]
    enum Answer<F> {
        Refused { status: Status },
        UnderWay { #[pin] response: Instrumented<F> },
    }
}

impl<F> Answering<F> {
    /// One that isn't let in.
    pub(super) fn refused(mut call: Call, status: Status) -> Self {
        call.end(&status, status.code());
        Self {
            call: None,
            deadline: None,
            timer: None,
            answer: Answer::Refused { status },
        }
    }

    /// One that is carried out, and may take so long.
    pub(super) fn under_way(call: Call, response: F, deadline: Option<Duration>) -> Self {
        let response = call.instrument(response);
        Self {
            call: Some(call),
            deadline,
            timer: None,
            answer: Answer::UnderWay { response },
        }
    }
}

impl<F, E> Future for Answering<F>
where
    F: Future<Output = Result<http::Response<Body>, E>>,
{
    type Output = Result<http::Response<ObservedBody>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = match this.answer.project() {
            AnswerNow::Refused { status } => {
                let response = status.clone().into_http();
                return Poll::Ready(Ok(response.map(ObservedBody::unobserved)));
            }
            AnswerNow::UnderWay { response } => match (response.poll(cx), *this.deadline) {
                (Poll::Ready(response), _) => response?,
                (Poll::Pending, None) => return Poll::Pending,
                // What is answered at once needs no timer.
                (Poll::Pending, Some(deadline)) => {
                    let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(deadline)));
                    ready!(timer.as_mut().poll(cx));
                    deadline_exceeded().into_http()
                }
            },
        };
        let Some(mut call) = this.call.take() else {
            // It was answered before.
            return Poll::Pending;
        };
        let load = call.load();
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
        Poll::Ready(Ok(response.map(|inner| ObservedBody { inner, call, load })))
    }
}
