//! From what applications have to payloads.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::{Bytes, BytesMut};
use futures_core::Stream;
use rsock_proto::{
    Payload,
    metadata::{CompositeBuilder, Mime, WellKnownMime, encode_tags},
};

#[cfg(feature = "json")]
use crate::router::Json;
use crate::{error::Error, responder::BoxStream, router::Text};

/// What a handler can answer with, and a channel be fed with.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made a payload",
    note = "use a Payload, text, bytes, Text, Json<T>, (), or an Option or a Result of these"
)]
pub trait IntoPayload {
    /// The payload.
    ///
    /// # Errors
    /// Why the request, or the stream, fails instead.
    fn into_payload(self) -> Result<Payload, Error>;

    /// The answer to a request-response; `None` completes without a payload (RR-02).
    ///
    /// # Errors
    /// As for `into_payload`.
    fn into_answer(self) -> Result<Option<Payload>, Error>
    where
        Self: Sized,
    {
        self.into_payload().map(Some)
    }
}

macro_rules! data {
    ($($source:ty),*) => {$(
        impl IntoPayload for $source {
            fn into_payload(self) -> Result<Payload, Error> {
                Ok(self.into())
            }
        }
    )*};
}

data!(Payload, Bytes, Vec<u8>, String, &'static str, &'static [u8]);

impl IntoPayload for () {
    fn into_payload(self) -> Result<Payload, Error> {
        Ok(Payload::default())
    }
}

impl IntoPayload for Text {
    fn into_payload(self) -> Result<Payload, Error> {
        Ok(self.0.into())
    }
}

#[cfg(feature = "json")]
impl<T: serde::Serialize> IntoPayload for Json<T> {
    fn into_payload(self) -> Result<Payload, Error> {
        let data = serde_json::to_vec(&self.0).map_err(Error::application)?;
        Ok(data.into())
    }
}

impl<T: IntoPayload, E: Into<Error>> IntoPayload for Result<T, E> {
    fn into_payload(self) -> Result<Payload, Error> {
        self.map_err(Into::into)?.into_payload()
    }

    fn into_answer(self) -> Result<Option<Payload>, Error> {
        self.map_err(Into::into)?.into_answer()
    }
}

/// `None` answers a request-response without a payload; as an item it is an empty one.
impl<T: IntoPayload> IntoPayload for Option<T> {
    fn into_payload(self) -> Result<Payload, Error> {
        self.map_or_else(|| Ok(Payload::default()), IntoPayload::into_payload)
    }

    fn into_answer(self) -> Result<Option<Payload>, Error> {
        self.map(IntoPayload::into_payload).transpose()
    }
}

/// A user's stream, as payloads.
pub(crate) fn payloads<St>(items: St) -> BoxStream<Result<Payload, Error>>
where
    St: Stream<Item: IntoPayload> + Send + 'static,
{
    Box::pin(Items { items })
}

pin_project_lite::pin_project! {
    struct Items<St> {
        #[pin]
        items: St,
    }
}

impl<St: Stream<Item: IntoPayload>> Stream for Items<St> {
    type Item = Result<Payload, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.project().items.poll_next(cx).map(|item| item.map(IntoPayload::into_payload))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.items.size_hint()
    }
}

/// Composite metadata for a payload: what most requests need.
pub trait PayloadExt: Sized {
    /// The same payload, for this route (ROUTE-01).
    ///
    /// # Errors
    /// [`Error::Invalid`] if the route has more than 255 bytes (ROUTE-04).
    fn route(self, route: &str) -> Result<Self, Error>;

    /// The same payload with another entry of composite metadata, behind those it has.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the MIME type is no ASCII text of 1 to 128 bytes, or the content is
    /// longer than 16,777,215 bytes.
    fn entry(self, mime: impl Into<Mime>, content: impl AsRef<[u8]>) -> Result<Self, Error>;
}

impl PayloadExt for Payload {
    fn route(self, route: &str) -> Result<Self, Error> {
        let tags = encode_tags([route]).map_err(Error::invalid)?;
        self.entry(WellKnownMime::Routing, tags)
    }

    fn entry(self, mime: impl Into<Mime>, content: impl AsRef<[u8]>) -> Result<Self, Error> {
        let mut entry = CompositeBuilder::new();
        entry.push(mime, content).map_err(Error::invalid)?;
        let entry = entry.finish();
        let metadata = match self.metadata {
            Some(before) if !before.is_empty() => {
                let mut both = BytesMut::with_capacity(before.len() + entry.len());
                both.extend_from_slice(&before);
                both.extend_from_slice(&entry);
                both.freeze()
            }
            _ => entry,
        };
        Ok(Self { metadata: Some(metadata), data: self.data })
    }
}
