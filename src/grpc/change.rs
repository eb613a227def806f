//! `groups.v1.ChangeService`. Its conversions stand in `change/convert.rs`.

mod convert;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::mpsc;
use tonic::{Request, Response, Status, codegen::tokio_stream::Stream};

use super::page::fit;
use crate::{
    auth::{Identity, Refusal},
    domain::{ListChanges, WatchChanges},
    error::{self, Error},
    feed::{Batch, Feed},
    pb::{self, change_service_server::ChangeService},
    store::{self, Db},
};

/// The implementation of `groups.v1.ChangeService`.
#[derive(Debug)]
pub struct Changes {
    /// What changes are listed from.
    pub db: Db,
    /// What they are followed by.
    pub feed: Feed,
}

#[tonic::async_trait]
impl ChangeService for Changes {
    type WatchChangesStream = Batches;

    async fn list_changes(
        &self,
        request: Request<pb::ListChangesRequest>,
    ) -> Result<Response<pb::ListChangesResponse>, Status> {
        let list = ListChanges::try_from(request.into_inner())?;
        let (page, history_id) = store::change::list(&self.db, &list).await?;
        let revision = page.revision.number();
        let (changes, next_page_token) = fit(page, &list.page.scope);
        Ok(Response::new(pb::ListChangesResponse {
            changes,
            next_page_token,
            revision,
            history_id: history_id.to_string(),
        }))
    }

    async fn watch_changes(
        &self,
        request: Request<pb::WatchChangesRequest>,
    ) -> Result<Response<Batches>, Status> {
        let identity = request.extensions().get::<Identity>().cloned();
        let watch = WatchChanges::try_from(request.into_inner())?;
        let ended = async move {
            match identity {
                Some(identity) => identity.ended().await,
                None => std::future::pending().await,
            }
        };
        Ok(Response::new(Batches {
            feed: self.feed.follow(watch).await?,
            ended: Box::pin(ended),
        }))
    }
}

/// The feed, as it is sent, until its follower is no longer known.
pub struct Batches {
    feed: mpsc::Receiver<error::Result<Batch>>,
    ended: Pin<Box<dyn Future<Output = Refusal> + Send>>,
}

impl Stream for Batches {
    type Item = Result<pb::WatchChangesResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(refusal) = self.ended.as_mut().poll(cx) {
            self.feed.close();
            self.ended = Box::pin(std::future::pending());
            return Poll::Ready(Some(Err(Error::from(refusal).into())));
        }
        let batch = self.feed.poll_recv(cx);
        batch.map(|batch| Some(batch?.map(Into::into).map_err(Into::into)))
    }
}
