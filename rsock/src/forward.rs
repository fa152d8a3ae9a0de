//! Passing requests on: whoever can be asked can answer, with what the other side of its connection
//! answers.

use std::sync::Arc;

use futures_core::Stream;
use rsock_proto::Payload;

use crate::{
    connection::Outgoing, demand::Grants, error::Error, request::Request, requester::Requester,
    responder::Responder, streams::Payloads,
};

/// Asks the other side of its connection the same, and gives what comes of it: the payloads as they
/// are, its errors with their codes, and cancellation that way. Each side is asked for what the other asks
/// for and no more, of a channel in both directions: who does not ask keeps the items from being made, and
/// none of them waits here. Where very much is asked for, or there is no end to it, it is passed on in
/// portions that the requester's window has room for, so that who then does not take what he has asked for
/// keeps waiting no more than that.
impl Responder for Requester {
    async fn fire_and_forget(self: Arc<Self>, request: Request) {
        // Nobody is told (FNF-01).
        let _ = Self::fire_and_forget(&self, request.into_payload()).await;
    }

    async fn request_response(self: Arc<Self>, request: Request) -> Result<Payload, Error> {
        Self::request_response(&self, request.into_payload()).await
    }

    async fn request_response_optional(
        self: Arc<Self>,
        request: Request,
    ) -> Result<Option<Payload>, Error> {
        Self::request_response(&self, request.into_payload()).optional().await
    }

    fn request_stream(
        self: Arc<Self>,
        mut request: Request,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        let demand = request.demand();
        Self::request_stream(&self, request.into_payload()).demand(demand)
    }

    fn request_channel(
        self: Arc<Self>,
        mut first: Request,
        rest: Payloads,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        let (demand, grants) = (first.demand(), Grants::new());
        let items = Box::pin(rest.demand(grants.demand()));
        let rest = Box::new(Outgoing { items, grants: Some(grants) });
        self.open_channel(first.into_payload(), rest).demand(demand)
    }

    async fn metadata_push(self: Arc<Self>, push: Request) {
        let metadata = push.into_payload().metadata.unwrap_or_default();
        // Nobody is told, here either.
        let _ = Self::metadata_push(&self, metadata).await;
    }
}
