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
    domain::{ListChanges, WatchChanges},
    error,
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
        let watch = WatchChanges::try_from(request.into_inner())?;
        Ok(Response::new(Batches(self.feed.follow(watch).await?)))
    }
}

/// The feed, as it is sent.
#[derive(Debug)]
pub struct Batches(mpsc::Receiver<error::Result<Batch>>);

impl Stream for Batches {
    type Item = Result<pb::WatchChangesResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let batch = self.0.poll_recv(cx);
        batch.map(|batch| Some(batch?.map(Into::into).map_err(Into::into)))
    }
}
