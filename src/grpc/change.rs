//! `groups.v1.ChangeService`. Its conversions are in `change/convert.rs`.

mod convert;

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::sync::mpsc;
use tonic::{Request, Response, Status, codegen::tokio_stream::Stream};

use super::page::truncate_page;
use crate::{
    domain::{ListChanges, WatchChanges},
    error,
    feed::{Feed, WatchBatch},
    pb::{self, change_service_server::ChangeService},
    store::{self, Db},
};

/// The implementation of `groups.v1.ChangeService`.
#[derive(Debug)]
pub struct Changes {
    /// The database that `ListChanges` reads.
    pub db: Db,
    /// The feed that `WatchChanges` streams.
    pub feed: Feed,
}

#[tonic::async_trait]
impl ChangeService for Changes {
    type WatchChangesStream = ChangeStream;

    async fn list_changes(
        &self,
        request: Request<pb::ListChangesRequest>,
    ) -> Result<Response<pb::ListChangesResponse>, Status> {
        let list = ListChanges::try_from(request.into_inner())?;
        let (page, history_id) = store::change::list(&self.db, &list).await?;
        let revision = page.revision.number();
        let (changes, next_page_token) = truncate_page(page, &list.page.scope);
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
    ) -> Result<Response<ChangeStream>, Status> {
        let watch = WatchChanges::try_from(request.into_inner())?;
        Ok(Response::new(ChangeStream(self.feed.watch(watch).await?)))
    }
}

/// The response stream of `WatchChanges`.
#[derive(Debug)]
pub struct ChangeStream(mpsc::Receiver<error::Result<WatchBatch>>);

impl Stream for ChangeStream {
    type Item = Result<pb::WatchChangesResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let batch = self.0.poll_recv(cx);
        batch.map(|batch| Some(batch?.map(Into::into).map_err(Into::into)))
    }
}
