//! A queued command.

use std::pin::Pin;

use sea_orm::DatabaseTransaction;
use tokio::sync::oneshot;
use tracing::Span;

use super::{RequestContext, StoredResponse, Write};
use crate::{
    domain::{ChangeLog, Revision, Timestamp},
    entity,
    error::{Error, Result},
    store::{cache::Invalidation, change, idempotency},
};

/// A queued command of any type.
pub(super) trait QueuedWrite: Send {
    /// Executes the command within `tx`, at the time `now`. If it changes something, `next` is its revision.
    fn attempt<'a>(
        &'a mut self,
        tx: &'a DatabaseTransaction,
        next: Revision,
        now: Timestamp,
    ) -> Pin<Box<dyn Future<Output = Result<Effects>> + Send + 'a>>;

    /// Sends the response of the last attempt, now that it is committed, or an error.
    fn answer(self: Box<Self>, committed: Result<()>);

    /// The tracing span of its statements.
    fn span(&self) -> &Span;
}

/// The effects of an attempt.
#[derive(Debug)]
pub(super) struct Effects {
    /// The cache invalidations of its changes. If there are none, the write has no revision.
    pub(super) changes: Vec<Invalidation>,
    /// The rows of its changes, to be inserted.
    pub(super) rows: Vec<entity::change::ActiveModel>,
    /// Whether a response was stored.
    pub(super) response_stored: bool,
}

/// A command, its response, and the channel to its caller.
pub(super) struct WriteJob<W: Write, R: StoredResponse, E> {
    command: W,
    context: RequestContext,
    reply: fn(W::Output, Revision) -> R,
    response: Option<R>,
    caller: oneshot::Sender<Result<R>>,
    span: Span,
    _in_flight: E,
}

impl<W: Write, R: StoredResponse, E: Send> WriteJob<W, R, E> {
    /// A job, and the channel on which its response arrives.
    pub(super) fn new(
        command: W,
        context: RequestContext,
        reply: fn(W::Output, Revision) -> R,
        in_flight: E,
    ) -> (Self, oneshot::Receiver<Result<R>>) {
        let (caller, answer) = oneshot::channel();
        let job = Self {
            command,
            context,
            reply,
            response: None,
            caller,
            span: tracing::info_span!("transaction", otel.kind = "internal"),
            _in_flight: in_flight,
        };
        (job, answer)
    }

    async fn execute(
        &mut self,
        tx: &DatabaseTransaction,
        next: Revision,
        now: Timestamp,
    ) -> Result<Effects> {
        let idempotency_key = self.context.idempotency_key.as_ref();
        if let Some(idempotency_key) = idempotency_key
            && let Some(bytes) = idempotency::find_response(tx, idempotency_key).await?
        {
            let reply = R::from_bytes(&bytes);
            let reply =
                reply.ok_or_else(|| Error::Internal("a kept reply can't be read".into()))?;
            self.response = Some(reply);
            return Ok(Effects {
                changes: Vec::new(),
                rows: Vec::new(),
                response_stored: false,
            });
        }
        let mut log = ChangeLog::new(now);
        let output = self.command.apply(tx, &mut log).await?;
        let now = log.time();
        let changes = log.into_changes();
        let invalidations: Vec<_> = changes.iter().map(Invalidation::from).collect();
        let revision = if invalidations.is_empty() {
            next.previous()
        } else {
            next
        };
        let rows = change::to_rows(changes, next, &self.context, now);
        let reply = (self.reply)(output, revision);
        if let Some(idempotency_key) = idempotency_key {
            idempotency::store_response(tx, idempotency_key, reply.to_bytes(), now).await?;
        }
        self.response = Some(reply);
        Ok(Effects {
            changes: invalidations,
            rows,
            response_stored: idempotency_key.is_some(),
        })
    }
}

impl<W: Write, R: StoredResponse, E: Send> QueuedWrite for WriteJob<W, R, E> {
    fn attempt<'a>(
        &'a mut self,
        tx: &'a DatabaseTransaction,
        next: Revision,
        now: Timestamp,
    ) -> Pin<Box<dyn Future<Output = Result<Effects>> + Send + 'a>> {
        Box::pin(self.execute(tx, next, now))
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let response = self.response;
        let answer = committed.and_then(|()| {
            response
                .ok_or_else(|| Error::Internal("a write was committed that was never made".into()))
        });
        // A caller that has disconnected needs no response.
        let _ = self.caller.send(answer);
    }

    fn span(&self) -> &Span {
        &self.span
    }
}
