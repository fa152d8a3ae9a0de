//! Entries of a request's metadata that handlers may take: credentials, the trace, types of data.

use rsock_proto::{
    Payload,
    metadata::{
        AcceptMimes, Authentication, Mime, TraceContext, WellKnownMime, encode_stream_mime,
    },
};

use crate::{
    error::Error,
    payload::{IntoPayload, PayloadExt},
    request::Request,
    router::extract::FromRequest,
};

/// The request's credentials, where it has any. They hold for this request alone, and of several
/// the first counts (AUTH-11). What cannot be read is refused as a failed authentication (AUTH-05).
impl FromRequest for Option<Authentication> {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        request.authentication()
    }
}

/// The request's credentials; without any it is refused (AUTH-08). Whose they are, and whether they
/// are right, is for the application to say, of types it does not know as well (AUTH-09).
impl FromRequest for Authentication {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        let credentials = request.authentication()?;
        credentials.ok_or_else(|| Error::rejected("credentials are needed here"))
    }
}

/// The trace the request belongs to, if it says so in a way that can be read (TRACE-07).
impl FromRequest for Option<TraceContext> {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(request.extensions()?.trace())
    }
}

/// The type of the request's data, and those accepted for its answer.
///
/// ```
/// # use rsock::{*, metadata::{Mime, WellKnownMime}};
/// let app = Router::new(()).route(
///     "report",
///     request_response(async |_, mimes: DataMimes| {
///         let offered = [WellKnownMime::Json, WellKnownMime::TextPlain].map(Mime::from);
///         match mimes.choose(&offered) {
///             Some(Mime::WellKnown(WellKnownMime::Json)) => {
///                 mimes.answer(WellKnownMime::Json, "{\"all\":\"well\"}")
///             }
///             Some(text) => mimes.answer(text.clone(), "all is well"),
///             None => Err(Error::rejected("reports come as JSON or as text")),
///         }
///     }),
/// );
/// ```
#[derive(Clone, Debug)]
pub struct DataMimes {
    data: Mime,
    accepted: AcceptMimes,
    is_composite: bool,
}

impl DataMimes {
    /// The type of the request's data: its own, or that of SETUP (MIME-02). It may be a reserved id,
    /// which stands for nothing yet (MIME-10).
    pub fn data(&self) -> &Mime {
        &self.data
    }

    /// The types accepted for the answer, the preferred one first (MIME-07). None if the request
    /// does not say, and answers are of the type of its data.
    pub fn accepted(&self) -> impl Iterator<Item = Mime> {
        // The list was whole when the request came.
        self.accepted.clone().filter_map(Result::ok)
    }

    /// The one of these that suits the request best (MIME-05): the first that it accepts, by its
    /// order, or where it accepts no type in particular, that of its data. `None` if none suits.
    pub fn choose<'a>(&self, offered: &'a [Mime]) -> Option<&'a Mime> {
        let is_offered = |mime: &Mime| offered.iter().find(|offered| *offered == mime);
        let mut accepted = self.accepted().peekable();
        match accepted.peek() {
            Some(_) => accepted.find_map(|mime| is_offered(&mime)),
            None => is_offered(&self.data),
        }
    }

    /// An answer, or an item of one, that is of this type; its metadata says so if the request is of
    /// another (MIME-04).
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no way to say so, as the connection's metadata is not
    /// composite, or the type's name cannot be sent.
    pub fn answer(
        &self,
        mime: impl Into<Mime>,
        answer: impl IntoPayload,
    ) -> Result<Payload, Error> {
        let mime = mime.into();
        let answer = answer.into_payload()?;
        if mime == self.data {
            return Ok(answer);
        }
        if !self.is_composite {
            return Err(Error::rejected(format_args!(
                "the answer would be {mime}, and metadata that are not composite cannot say so"
            )));
        }
        let content = encode_stream_mime(&mime).map_err(Error::rejected)?;
        answer.entry(WellKnownMime::MimeType, content)
    }
}

impl FromRequest for DataMimes {
    fn from_request(request: &mut Request) -> Result<Self, Error> {
        Ok(Self {
            data: request.data_mime(),
            accepted: request.extensions()?.accepted_mimes().map_err(Error::invalid)?,
            is_composite: request.peer().is_composite(),
        })
    }
}

#[cfg(test)]
mod tests {
    use rsock_proto::metadata::{Extensions, encode_accept_mimes, mime};

    use super::*;

    fn mimes(data: WellKnownMime, accepted: &[WellKnownMime]) -> DataMimes {
        let list: Vec<Mime> = accepted.iter().copied().map(Mime::from).collect();
        let mut payload = Payload::default();
        if !list.is_empty() {
            let content = encode_accept_mimes(&list).unwrap();
            payload = payload.entry(WellKnownMime::AcceptMimeTypes, content).unwrap();
        }
        let metadata = payload.metadata.unwrap_or_default();
        let extensions = Extensions::read(&metadata, mime::COMPOSITE_METADATA).unwrap();
        let accepted = extensions.accepted_mimes().unwrap();
        DataMimes { data: data.into(), accepted, is_composite: true }
    }

    /// MIME-05, MIME-07
    #[test]
    fn the_requester_s_order_decides() {
        let (cbor, json, text) =
            (WellKnownMime::Cbor, WellKnownMime::Json, WellKnownMime::TextPlain);
        for (accepted, offered, chosen) in [
            (vec![cbor, json], vec![json, cbor], Some(cbor)),
            (vec![cbor, json], vec![text, json], Some(json)),
            (vec![cbor], vec![json], None),
            (vec![], vec![text, json], Some(json)),
            (vec![], vec![text], None),
            (vec![cbor], vec![], None),
        ] {
            let offered: Vec<Mime> = offered.into_iter().map(Mime::from).collect();
            let mimes = mimes(json, &accepted);
            assert_eq!(mimes.choose(&offered), chosen.map(Mime::from).as_ref());
        }
    }

    /// MIME-04
    #[test]
    fn an_answer_says_its_type_if_it_is_another() {
        let mut mimes = mimes(WellKnownMime::Json, &[]);
        assert_eq!(mimes.answer(WellKnownMime::Json, "{}"), Ok("{}".into()));
        let answer = mimes.answer(WellKnownMime::Cbor, "x").unwrap();
        assert_eq!(answer.metadata.unwrap(), b"\xfa\0\0\x01\x81".as_slice());
        mimes.is_composite = false;
        assert!(matches!(mimes.answer(WellKnownMime::Cbor, "x"), Err(Error::Rejected(_))));
        assert_eq!(mimes.answer(WellKnownMime::Json, "{}"), Ok("{}".into()));
    }
}
