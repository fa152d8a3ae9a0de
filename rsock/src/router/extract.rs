//! From a request to what a handler wants of it.

use bytes::Bytes;
use rsock_proto::Payload;

#[cfg(feature = "json")]
use crate::body::Json;
use crate::{
    body::Text,
    demand::Demand,
    error::Error,
    peer::Identity,
    request::{Params, Request},
};

/// An input that a handler can take: the payload or a part of it, decoded, or several as a tuple.
#[diagnostic::on_unimplemented(
    message = "a handler cannot take `{Self}` from a request",
    note = "take Payload, Bytes, Text, Json<T>, RouteName, Params, Request, DataMimes, \
            Authentication, Option<TraceContext>, Identity, Demand, () or a tuple of these"
)]
pub trait FromRequest: Sized {
    /// Takes it out of the request.
    ///
    /// # Errors
    /// [`Error::Invalid`] where the request cannot be read so; the handler is not called then.
    fn from_request(request: &mut Request) -> Result<Self, Error>;

    /// Takes it out of a request that nobody needs any more: nothing else is taken of it.
    ///
    /// # Errors
    /// As for [`from_request`](Self::from_request).
    fn from_whole_request(mut request: Request) -> Result<Self, Error> {
        Self::from_request(&mut request)
    }
}

impl FromRequest for Request {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        let payload = request.take_payload();
        // Whoever else takes something of it sees the same metadata.
        let mut taken = request.clone();
        taken.give_payload(payload);
        Ok(taken)
    }

    fn from_whole_request(request: Request) -> Result<Self, Error> {
        Ok(request)
    }
}

/// The identity of who asks; without one the request is refused (AUTH-08).
impl FromRequest for Identity {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        let identity = request.identity().cloned();
        identity.ok_or_else(|| Error::rejected("it is not known who asks, and that is needed here"))
    }
}

/// The identity of who asks, where it is known.
impl FromRequest for Option<Identity> {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(request.identity().cloned())
    }
}

/// How many items the peer asks for.
impl FromRequest for Demand {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(request.demand())
    }
}

impl FromRequest for Payload {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(request.take_payload())
    }

    fn from_whole_request(request: Request) -> Result<Self, Error> {
        Ok(request.into_payload())
    }
}

/// The data alone.
impl FromRequest for Bytes {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(request.take_data())
    }

    fn from_whole_request(request: Request) -> Result<Self, Error> {
        Ok(request.into_payload().data)
    }
}

impl FromRequest for () {
    fn from_request(_: &mut Request) -> Result<Self, Error> {
        Ok(())
    }
}

impl FromRequest for Text {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        let data = request.take_data();
        match std::str::from_utf8(&data) {
            Ok(text) => Ok(Self(text.to_owned())),
            Err(error) => Err(Error::invalid(format_args!("the data is not UTF-8 text: {error}"))),
        }
    }
}

#[cfg(feature = "json")]
impl<T: serde::de::DeserializeOwned> FromRequest for Json<T> {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        let data = request.take_data();
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
        Ok(request.params())
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
    use crate::peer::Peer;

    #[test]
    fn what_is_no_json_is_not_quoted_whole() {
        let payload = format!("{:?}", "x".repeat(1 << 20)).into();
        let mut request = Request::new(payload, Peer::local());
        let refused = Json::<u32>::from_request(&mut request).unwrap_err().to_string();
        assert!(refused.contains("invalid type: string \"xxx"), "{refused}");
        assert!(refused.len() < 1_000, "{} bytes", refused.len());
    }
}
