//! From what applications have to payloads.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_core::Stream;
use rsock_proto::{
    Payload,
    metadata::{
        Authentication, Extensions, Mime, TraceParent, WellKnownMime, Zipkin, append_entry,
        append_route, encode_accept_mimes, encode_stream_mime, mime,
    },
};

#[cfg(feature = "json")]
use crate::body::Json;
use crate::{body::Text, boxed::BoxStream, error::Error, route_cache::route_metadata};

/// A value that a handler can answer with, and a channel be fed with.
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

    /// The same payload with credentials for this request alone (AUTH-11). They travel in clear:
    /// over a transport that is not confidential, everyone on the way reads them (AUTH-10).
    ///
    /// # Errors
    /// [`Error::Invalid`] if the user name has more than 65,535 bytes.
    fn authentication(self, credentials: &Authentication) -> Result<Self, Error> {
        let content = credentials.encode().map_err(Error::invalid)?;
        self.entry(WellKnownMime::Authentication, content)
    }

    /// The same payload, whose data is of this type and not of SETUP's (MIME-02).
    ///
    /// # Errors
    /// [`Error::Invalid`] if the MIME type cannot be sent.
    fn data_mime(self, mime: impl Into<Mime>) -> Result<Self, Error> {
        let content = encode_stream_mime(&mime.into()).map_err(Error::invalid)?;
        self.entry(WellKnownMime::MimeType, content)
    }

    /// The same payload, whose answer may be of these types, the preferred one first (MIME-07). An
    /// answer of another type than the request says so: see [`extensions`](Self::extensions).
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are none, or one cannot be sent.
    fn accept<'a>(self, mimes: impl IntoIterator<Item = &'a Mime>) -> Result<Self, Error> {
        let content = encode_accept_mimes(mimes).map_err(Error::invalid)?;
        self.entry(WellKnownMime::AcceptMimeTypes, content)
    }

    /// The same payload as a part of this trace (TRACE-01).
    ///
    /// # Errors
    /// None of its own: those of [`entry`](Self::entry) cannot happen.
    fn zipkin(self, trace: &Zipkin) -> Result<Self, Error> {
        self.entry(WellKnownMime::Tracing, trace.encode())
    }

    /// The same payload as a part of this trace, as W3C Trace Context says it.
    ///
    /// # Errors
    /// None of its own: those of [`entry`](Self::entry) cannot happen.
    fn traceparent(self, trace: &TraceParent) -> Result<Self, Error> {
        self.entry(TraceParent::mime(), trace.to_string())
    }

    /// The extensions in its composite metadata: of an answer, for example, its type.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the metadata is malformed (CMETA-11).
    fn extensions(&self) -> Result<Extensions, Error>;
}

impl PayloadExt for Payload {
    fn route(self, route: &str) -> Result<Self, Error> {
        let metadata = match &self.metadata {
            None => route_metadata(route),
            Some(before) => append_route(before, route),
        };
        Ok(Self { metadata: Some(metadata.map_err(Error::invalid)?), data: self.data })
    }

    fn entry(self, mime: impl Into<Mime>, content: impl AsRef<[u8]>) -> Result<Self, Error> {
        let before = self.metadata.as_deref().unwrap_or_default();
        let metadata = append_entry(before, mime, content).map_err(Error::invalid)?;
        Ok(Self { metadata: Some(metadata), data: self.data })
    }

    fn extensions(&self) -> Result<Extensions, Error> {
        let Some(metadata) = &self.metadata else { return Ok(Extensions::default()) };
        Extensions::read(metadata, mime::COMPOSITE_METADATA).map_err(Error::invalid)
    }
}
