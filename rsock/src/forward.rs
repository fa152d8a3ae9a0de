//! Passing requests on: whoever can be asked can answer, with what the other side of its connection
//! answers.

use std::sync::Arc;

use futures_core::Stream;
use rsock_proto::Payload;

use crate::{
    connection::Payloads, error::Error, request::Request, requester::Requester,
    responder::Responder,
};

/// Asks the other side of its connection the same, and gives what comes of it: the payloads as they
/// are, its errors with their codes, and cancellation that way. A stream is asked for as much as the
/// requester's window has room for, whatever the one who asks has asked for; beyond that, what is not
/// taken here is not asked for there.
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
        request: Request,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        Self::request_stream(&self, request.into_payload())
    }

    fn request_channel(
        self: Arc<Self>,
        first: Request,
        rest: Payloads,
    ) -> impl Stream<Item = Result<Payload, Error>> + Send {
        self.open_channel(first.into_payload(), Box::pin(rest))
    }

    async fn metadata_push(self: Arc<Self>, push: Request) {
        let metadata = push.into_payload().metadata.unwrap_or_default();
        // Nobody is told, here either.
        let _ = Self::metadata_push(&self, metadata).await;
    }
}
