//! From a request to what a handler wants of it.

use std::{mem, sync::Arc};

use bytes::Bytes;
use rsock_proto::{
    Payload,
    metadata::{Authentication, Extensions, Mime, Route},
};

use crate::{error::Error, router::path::Params};

/// A request on its way to its handler.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its payload.
    pub payload: Payload,
    /// The types of data in it are known to be readable.
    pub(super) extensions: Extensions,
    pub(super) route: Option<Route>,
    pub(super) params: Params,
    pub(super) connection: Arc<ConnectionInfo>,
}

/// What a handler may know of the connection its request came on.
#[derive(Clone, Debug)]
pub(super) struct ConnectionInfo {
    pub(super) metadata_mime: Bytes,
    pub(super) data_mime: Bytes,
    pub(super) peer: Arc<str>,
}

impl Request {
    /// The route asked for; `None` if the request names none.
    pub fn route(&self) -> Option<&str> {
        self.route.as_ref().map(Route::as_str)
    }

    /// What the parameters of the route's pattern stand for.
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The connection's metadata MIME type.
    pub fn metadata_mime(&self) -> &[u8] {
        &self.connection.metadata_mime
    }

    /// The type of the data: the request's own, or that of SETUP (MIME-02).
    pub fn data_mime(&self) -> Mime {
        let own = self.extensions.data_mime().ok().flatten();
        own.unwrap_or_else(|| Mime::from_setup(self.connection.data_mime.clone()))
    }

    /// What the extensions say in its metadata.
    pub fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Its credentials, of several the first (AUTH-11). They are no one's until they are checked.
    ///
    /// # Errors
    /// [`Error::Rejected`] if they cannot be read, which is a failed authentication (AUTH-05).
    pub fn authentication(&self) -> Result<Option<Authentication>, Error> {
        self.extensions.authentication().map_err(|error| {
            Error::rejected(format_args!("the credentials are malformed: {error}"))
        })
    }

    /// The other end's address.
    pub fn peer(&self) -> &str {
        &self.connection.peer
    }
}

/// What a handler can take as its input: the payload or a part of it, decoded, or several as a tuple.
#[diagnostic::on_unimplemented(
    message = "a handler cannot take `{Self}` from a request",
    note = "take Payload, Bytes, Text, Json<T>, RouteName, Params, Request, DataMimes, \
            Authentication, Option<TraceContext>, () or a tuple of these"
)]
pub trait FromRequest: Sized {
    /// Takes it out of the request.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the request cannot be read so; the handler is not called then.
    fn from_request(request: &mut Request) -> Result<Self, Error>;
}

impl FromRequest for Request {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        let payload = mem::take(&mut request.payload);
        Ok(Self { payload, ..request.clone() })
    }
}

impl FromRequest for Payload {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(mem::take(&mut request.payload))
    }
}

/// The data alone.
impl FromRequest for Bytes {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(mem::take(&mut request.payload.data))
    }
}

impl FromRequest for () {
    fn from_request(_: &mut Request) -> Result<Self, Error> {
        Ok(())
    }
}

/// Data that is UTF-8 text, in and out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

impl FromRequest for Text {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        let data = mem::take(&mut request.payload.data);
        match std::str::from_utf8(&data) {
            Ok(text) => Ok(Self(text.to_owned())),
            Err(error) => Err(Error::invalid(format_args!("the data is no UTF-8 text: {error}"))),
        }
    }
}

/// Data that is JSON, in and out. Empty data reads like `null`.
#[cfg(feature = "json")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Json<T>(pub T);

#[cfg(feature = "json")]
impl<T: serde::de::DeserializeOwned> FromRequest for Json<T> {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        let data = mem::take(&mut request.payload.data);
        let json: &[u8] = if data.is_empty() { b"null" } else { &data };
        serde_json::from_slice(json).map(Json).map_err(|error| {
            // It may quote what was sent, which is not sent back whole.
            let problem = error.to_string();
            Error::invalid(format_args!("the data is not the JSON expected here: {problem:.300}"))
        })
    }
}

/// The route as it was asked for; empty if the request named none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteName(pub String);

impl FromRequest for RouteName {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(Self(request.route().unwrap_or_default().to_owned()))
    }
}

impl FromRequest for Params {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(request.params.clone())
    }
}

macro_rules! tuples {
    ($(($($part:ident),+))*) => {$(
        impl<$($part: FromRequest),+> FromRequest for ($($part,)+) {
            fn from_request(request: &mut Request) -> Result<Self, Error> {
                Ok(($($part::from_request(request)?,)+))
            }
        }
    )*};
}

tuples! { (A) (A, B) (A, B, C) (A, B, C, D) }

#[cfg(feature = "json")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_json_is_not_quoted_whole() {
        let connection = ConnectionInfo {
            metadata_mime: Bytes::new(),
            data_mime: Bytes::new(),
            peer: "peer".into(),
        };
        let mut request = Request {
            payload: format!("{:?}", "x".repeat(1 << 20)).into(),
            extensions: Extensions::default(),
            route: None,
            params: Params::default(),
            connection: Arc::new(connection),
        };
        let refused = Json::<u32>::from_request(&mut request).unwrap_err().to_string();
        assert!(refused.contains("invalid type: string \"xxx"), "{refused}");
        assert!(refused.len() < 1_000, "{} bytes", refused.len());
    }
}
