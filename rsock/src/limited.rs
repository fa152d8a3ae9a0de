//! Responders that are asked no more often than a limit says.

use std::sync::Arc;

use bytes::Bytes;
use rsock_proto::Payload;

use crate::{
    boxed::BoxFuture,
    connection::{
        feed::ItemSource,
        handle::{Asked, Handle},
        inflow::Inflow,
        work::{Work, work},
    },
    rate_limit::RateLimit,
    responder::Failed,
};

/// A responder that is asked no more often than a limit says.
pub(crate) struct Limited {
    pub(crate) handle: Arc<dyn Handle>,
    pub(crate) limit: Arc<RateLimit>,
}

impl Handle for Limited {
    fn fire_and_forget(&self, payload: Payload) -> Work {
        match self.limit.check() {
            Ok(()) => self.handle.fire_and_forget(payload),
            // Nobody is told; it is counted.
            Err(_) => work(|| std::future::ready(())),
        }
    }

    fn request_response(&self, payload: Payload) -> Work {
        match self.limit.check() {
            Ok(()) => self.handle.request_response(payload),
            Err(error) => work(|| std::future::ready(Err::<Option<Payload>, _>(error))),
        }
    }

    fn request_stream(&self, payload: Payload, asked: Asked) -> ItemSource {
        match self.limit.check() {
            Ok(()) => self.handle.request_stream(payload, asked),
            Err(error) => ItemSource::stream(Failed::new(error)),
        }
    }

    fn request_channel(&self, first: Payload, rest: Inflow, asked: Asked) -> ItemSource {
        match self.limit.check() {
            Ok(()) => self.handle.request_channel(first, rest, asked),
            Err(error) => ItemSource::stream(Failed::new(error)),
        }
    }

    fn metadata_push(&self, metadata: Bytes) -> BoxFuture<()> {
        match self.limit.check() {
            Ok(()) => self.handle.metadata_push(metadata),
            Err(_) => Box::pin(std::future::ready(())),
        }
    }
}
