//! A command on its way through the queue.

use std::pin::Pin;

use sea_orm::DatabaseTransaction;
use tokio::sync::oneshot;
use tracing::Span;

use super::{Origin, Reply, Write};
use crate::{
    domain::{ChangeLog, Revision, Timestamp},
    entity,
    error::{Error, Result},
    store::{cache::Touched, change, request},
};

/// A command, whatever its type.
pub(super) trait Work: Send {
    /// Carries it out within `tx`, at a time. If it changes something, `next` is its revision.
    fn attempt<'a>(
        &'a mut self,
        tx: &'a DatabaseTransaction,
        next: Revision,
        now: Timestamp,
    ) -> Pin<Box<dyn Future<Output = Result<Effects>> + Send + 'a>>;

    /// Answers it: with what its last attempt came to, now that this is committed, or with an error.
    fn answer(self: Box<Self>, committed: Result<()>);

    /// What its statements belong to.
    fn span(&self) -> &Span;
}

/// What an attempt has done.
#[derive(Debug)]
pub(super) struct Effects {
    /// What it has changed; nothing, and it has no revision.
    pub(super) changes: Vec<Touched>,
    /// The same, to be recorded.
    pub(super) rows: Vec<entity::change::ActiveModel>,
    /// Whether an answer was kept.
    pub(super) kept: bool,
}

/// A command, and what becomes of it.
pub(super) struct Job<W: Write, R: Reply, E> {
    command: W,
    origin: Origin,
    reply: fn(W::Output, Revision) -> R,
    made: Option<R>,
    caller: oneshot::Sender<Result<R>>,
    span: Span,
    _under_way: E,
}

impl<W: Write, R: Reply, E: Send> Job<W, R, E> {
    /// A job, and where its answer will come.
    pub(super) fn new(
        command: W,
        origin: Origin,
        reply: fn(W::Output, Revision) -> R,
        under_way: E,
    ) -> (Self, oneshot::Receiver<Result<R>>) {
        let (caller, answer) = oneshot::channel();
        let job = Self {
            command,
            origin,
            reply,
            made: None,
            caller,
            span: tracing::info_span!("transaction", otel.kind = "internal"),
            _under_way: under_way,
        };
        (job, answer)
    }

    async fn carry_out(
        &mut self,
        tx: &DatabaseTransaction,
        next: Revision,
        now: Timestamp,
    ) -> Result<Effects> {
        let once = self.origin.once.as_ref();
        if let Some(once) = once
            && let Some(bytes) = request::answered(tx, once).await?
        {
            let reply = R::from_bytes(&bytes);
            let reply =
                reply.ok_or_else(|| Error::Internal("a kept reply can't be read".into()))?;
            self.made = Some(reply);
            return Ok(Effects {
                changes: Vec::new(),
                rows: Vec::new(),
                kept: false,
            });
        }
        let mut log = ChangeLog::new(now);
        let output = self.command.apply(tx, &mut log).await?;
        let now = log.time();
        let changes = log.into_changes();
        let touched: Vec<_> = changes.iter().map(Touched::from).collect();
        let revision = if touched.is_empty() {
            next.previous()
        } else {
            next
        };
        let rows = change::rows(changes, next, &self.origin, now);
        let reply = (self.reply)(output, revision);
        if let Some(once) = once {
            request::keep(tx, once, reply.to_bytes(), now).await?;
        }
        self.made = Some(reply);
        Ok(Effects {
            changes: touched,
            rows,
            kept: once.is_some(),
        })
    }
}

impl<W: Write, R: Reply, E: Send> Work for Job<W, R, E> {
    fn attempt<'a>(
        &'a mut self,
        tx: &'a DatabaseTransaction,
        next: Revision,
        now: Timestamp,
    ) -> Pin<Box<dyn Future<Output = Result<Effects>> + Send + 'a>> {
        Box::pin(self.carry_out(tx, next, now))
    }

    fn answer(self: Box<Self>, committed: Result<()>) {
        let made = self.made;
        let answer = committed.and_then(|()| {
            made.ok_or_else(|| Error::Internal("a write was committed that was never made".into()))
        });
        // Who has hung up needs no answer.
        let _ = self.caller.send(answer);
    }

    fn span(&self) -> &Span {
        &self.span
    }
}
