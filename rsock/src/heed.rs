//! Notices of a server's, which a client has declared to heed.

use std::sync::Arc;

use bytes::Bytes;
use rsock_proto::{
    Payload,
    metadata::{Features, Notice, append_entry, mime},
};

use crate::{
    boxed::BoxFuture,
    connection::{
        feed::ItemSource,
        handle::{Asked, Handle},
        inflow::Inflow,
        work::Work,
    },
    error::ConnectError,
};

/// The features that a client has declared, and what it does when it is told.
#[derive(Clone)]
pub(crate) struct Heed {
    pub(crate) features: Features,
    pub(crate) told: Arc<dyn Fn(Notice) + Send + Sync>,
}

impl Heed {
    /// The payload of SETUP with the features added to its metadata, which is of the type `metadata_mime`.
    pub(crate) fn in_setup(
        &self,
        payload: &Payload,
        metadata_mime: &[u8],
    ) -> Result<Payload, ConnectError> {
        if !mime::is_composite(metadata_mime) {
            let problem = "what a client heeds is said in composite metadata, and these are others";
            return Err(ConnectError::Setting(problem));
        }
        let before = payload.metadata.clone().unwrap_or_default();
        // Words that short fit behind whatever fits.
        let metadata = append_entry(&before, Features::mime(), self.features.to_string())
            .map_err(|_| ConnectError::Setting("the features do not fit"))?;
        Ok(Payload { metadata: Some(metadata), data: payload.data.clone() })
    }
}

/// A responder of a client's, before which notices are heeded: they are no pushes of the application's.
pub(crate) struct Heeding {
    pub(crate) responder: Arc<dyn Handle>,
    pub(crate) heed: Heed,
}

impl Handle for Heeding {
    fn fire_and_forget(&self, payload: Payload) -> Work {
        self.responder.fire_and_forget(payload)
    }

    fn request_response(&self, payload: Payload) -> Work {
        self.responder.request_response(payload)
    }

    fn request_stream(&self, payload: Payload, asked: Asked) -> ItemSource {
        self.responder.request_stream(payload, asked)
    }

    fn request_channel(&self, first: Payload, rest: Inflow, asked: Asked) -> ItemSource {
        self.responder.request_channel(first, rest, asked)
    }

    fn metadata_push(&self, metadata: Bytes) -> BoxFuture<()> {
        // Who has not declared to heed it was told by a server that does not know what it does.
        match Notice::find(&metadata, mime::COMPOSITE_METADATA) {
            Ok(Some(notice)) if self.heed.features.has(notice.needs()) => {
                let told = Arc::clone(&self.heed.told);
                Box::pin(async move { told(notice) })
            }
            _ => self.responder.metadata_push(metadata),
        }
    }
}
