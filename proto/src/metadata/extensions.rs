//! The metadata of one payload, in the extensions' terms.

use std::fmt;

use bytes::Bytes;

use crate::metadata::{
    AcceptMimes, Authentication, MetadataError, Mime, Route, TraceContext, TraceParent,
    WellKnownMime, Zipkin,
    composite::RawEntry,
    decode_stream_mime,
    mime::{Head, TRACEPARENT, is_composite},
    routing,
};

/// The entries of metadata that the extensions give a meaning: the first of each type.
///
/// They are found in one pass and not decoded yet; each is a slice of the metadata. Of repeated
/// types the first counts (AUTH-11, MIME-07). `Debug` shows no contents (AUTH-12).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Extensions {
    routing: Option<Bytes>,
    /// Most requests have a route and no more: they need no allocation.
    others: Option<Box<Others>>,
}

#[derive(Clone, Default, PartialEq, Eq)]
struct Others {
    mime_type: Option<Bytes>,
    accept_mime_types: Option<Bytes>,
    authentication: Option<Bytes>,
    zipkin: Option<Bytes>,
    traceparent: Option<Bytes>,
}

impl Extensions {
    /// Reads `metadata`, on a connection whose SETUP says `connection_mime` for metadata, in any
    /// ASCII case. Where that is no composite metadata but the type of one extension, all of the
    /// metadata is its one entry (ROUTE-09); where it is anything else, there are none.
    ///
    /// # Errors
    ///
    /// [`MetadataError::Truncated`] if any composite entry is cut short, one without a meaning
    /// here included (CMETA-11).
    pub fn read(
        metadata: &Bytes,
        connection_mime: impl AsRef<[u8]>,
    ) -> Result<Self, MetadataError> {
        let connection_mime = connection_mime.as_ref();
        let mut found = Self::default();
        if !is_composite(connection_mime) {
            if let Some(entry) = found.entry(Head::Name(connection_mime)) {
                *entry = Some(metadata.clone());
            }
            return Ok(found);
        }
        let mut rest: &[u8] = metadata;
        while !rest.is_empty() {
            let (raw, behind) = RawEntry::split(rest)?;
            rest = behind;
            if let Some(entry) = found.entry(raw.head)
                && entry.is_none()
            {
                *entry = Some(metadata.slice_ref(raw.content));
            }
        }
        Ok(found)
    }

    /// The place in which the content of entries of this type is kept.
    fn entry(&mut self, head: Head<'_>) -> Option<&mut Option<Bytes>> {
        let known = match head {
            Head::Id(id) => WellKnownMime::from_id(id),
            Head::Name(name) if name.eq_ignore_ascii_case(TRACEPARENT.as_bytes()) => {
                return Some(&mut self.others.get_or_insert_default().traceparent);
            }
            Head::Name(name) => WellKnownMime::from_name(name),
        };
        let of_others: fn(&mut Others) -> &mut Option<Bytes> = match known? {
            WellKnownMime::Routing => return Some(&mut self.routing),
            WellKnownMime::MimeType => |others| &mut others.mime_type,
            WellKnownMime::AcceptMimeTypes => |others| &mut others.accept_mime_types,
            WellKnownMime::Authentication => |others| &mut others.authentication,
            WellKnownMime::Tracing => |others| &mut others.zipkin,
            _ => return None,
        };
        Some(of_others(self.others.get_or_insert_default()))
    }

    /// The first routing tag, if there is one.
    ///
    /// # Errors
    ///
    /// [`MetadataError::Truncated`] if any tag runs past the end (ROUTE-06),
    /// [`MetadataError::NotUtf8`] if the first is not UTF-8 (ROUTE-07).
    pub fn route(&self) -> Result<Option<Route>, MetadataError> {
        self.routing.as_ref().map_or(Ok(None), routing::first_tag)
    }

    /// The type of the data, where it is not that of SETUP (MIME-02). What to make of a
    /// reserved id is for the application (MIME-10).
    ///
    /// # Errors
    ///
    /// [`MetadataError::Truncated`] if the entry is empty or cut short (MIME-09).
    pub fn data_mime(&self) -> Result<Option<Mime>, MetadataError> {
        let content = self.others.as_ref().and_then(|others| others.mime_type.as_ref());
        content.map(decode_stream_mime).transpose()
    }

    /// The types accepted for answers, the preferred one first; none if nothing is said of them
    /// or only reserved ids are (MIME-10). From a responder they mean nothing (MIME-06).
    ///
    /// The list is whole, so that none of its items is an error; its length is limited by that of
    /// the metadata alone.
    ///
    /// # Errors
    ///
    /// [`MetadataError::Truncated`] if the list is empty or cut short (MIME-09).
    pub fn accepted_mimes(&self) -> Result<AcceptMimes, MetadataError> {
        let content = self.others.as_ref().and_then(|others| others.accept_mime_types.as_ref());
        let Some(content) = content else { return Ok(AcceptMimes::none()) };
        let list = AcceptMimes::new(content.clone());
        list.check()?;
        Ok(list)
    }

    /// The credentials, where there are any.
    ///
    /// # Errors
    ///
    /// [`MetadataError::Truncated`] if they are cut short: failed authentication, and no invalid
    /// request (AUTH-05, AUTH-08).
    pub fn authentication(&self) -> Result<Option<Authentication>, MetadataError> {
        self.raw_authentication().map(Authentication::decode).transpose()
    }

    /// The credentials as they came, for [`Authentication::decode_with`].
    pub fn raw_authentication(&self) -> Option<&Bytes> {
        self.others.as_ref()?.authentication.as_ref()
    }

    /// The trace, if it can be read: the protocol's own extension before `traceparent`.
    pub fn trace(&self) -> Option<TraceContext> {
        let others = self.others.as_ref()?;
        let zipkin = others.zipkin.as_deref().and_then(Zipkin::decode).map(TraceContext::Zipkin);
        zipkin.or_else(|| {
            let parent = others.traceparent.as_deref().and_then(TraceParent::decode);
            parent.map(TraceContext::TraceParent)
        })
    }
}

impl fmt::Debug for Extensions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Extensions");
        shown.field("routing_bytes", &self.routing.as_ref().map(Bytes::len));
        if let Some(others) = &self.others {
            let Others { mime_type, accept_mime_types, authentication, zipkin, traceparent } =
                &**others;
            for (name, entry) in [
                ("mime_type_bytes", mime_type),
                ("accept_mime_types_bytes", accept_mime_types),
                ("authentication_bytes", authentication),
                ("zipkin_bytes", zipkin),
                ("traceparent_bytes", traceparent),
            ] {
                shown.field(name, &entry.as_ref().map(Bytes::len));
            }
        }
        shown.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{
        CompositeBuilder, mime,
        mime::COMPOSITE_METADATA,
        testing::{hex, is_slice_of},
    };

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn composite<M: Into<Mime>>(entries: impl IntoIterator<Item = (M, Bytes)>) -> Bytes {
        let mut builder = CompositeBuilder::new();
        for (mime, content) in entries {
            builder.push(mime, content).unwrap();
        }
        builder.finish()
    }

    fn read(metadata: &Bytes) -> Extensions {
        Extensions::read(metadata, COMPOSITE_METADATA).unwrap()
    }

    fn all() -> Bytes {
        composite([
            (Mime::Reserved(0x30), hex("ff")),
            (WellKnownMime::Routing.into(), hex("01 61")),
            (WellKnownMime::MimeType.into(), hex("81")),
            (WellKnownMime::AcceptMimeTypes.into(), hex("85 ab 81")),
            (WellKnownMime::Authentication.into(), hex("81 746f6b")),
            (WellKnownMime::Tracing.into(), hex("10")),
            (TraceParent::mime(), Bytes::from(PARENT)),
        ])
    }

    #[test]
    fn each_extension_finds_its_entry() {
        let metadata = all();
        let found = read(&metadata);
        assert_eq!(found.route().unwrap().unwrap().as_str(), "a");
        assert_eq!(found.data_mime(), Ok(Some(WellKnownMime::Cbor.into())));
        let accepted: Vec<_> = found.accepted_mimes().unwrap().map(Result::unwrap).collect();
        assert_eq!(accepted, [WellKnownMime::Json, WellKnownMime::Cbor].map(Mime::from));
        let Ok(Some(Authentication::Bearer { token })) = found.authentication() else { panic!() };
        assert!(token == "tok" && is_slice_of(&token, &metadata));
        let zipkin = Zipkin::decode(&[0x10]).unwrap();
        assert_eq!(found.trace(), Some(TraceContext::Zipkin(zipkin)));
    }

    #[test]
    fn nothing_said_is_no_error() {
        for metadata in [Bytes::new(), hex("85 000000")] {
            let found = read(&metadata);
            assert_eq!(found, Extensions::default());
            assert_eq!(found.route(), Ok(None));
            assert_eq!(found.data_mime(), Ok(None));
            assert_eq!(found.accepted_mimes().unwrap().next(), None);
            assert!(matches!(found.authentication(), Ok(None)));
            assert_eq!(found.trace(), None);
        }
    }

    /// AUTH-11, MIME-07
    #[test]
    fn of_several_the_first_counts() {
        let twice = [hex("81 61"), hex("81 62")];
        let metadata = composite(twice.map(|content| (WellKnownMime::Authentication, content)));
        let Ok(Some(Authentication::Bearer { token })) = read(&metadata).authentication() else {
            panic!()
        };
        assert_eq!(token, "a");
        // Also if it cannot be read: a second try is no second chance.
        let twice = [hex("80 00ff 75"), hex("81 62")];
        let metadata = composite(twice.map(|content| (WellKnownMime::Authentication, content)));
        assert!(read(&metadata).authentication().is_err());
    }

    /// MIME-09
    #[test]
    fn a_list_cut_short_is_an_error_before_it_is_read() {
        for content in ["", "85 05 61", "ab 00"] {
            let metadata = composite([(WellKnownMime::AcceptMimeTypes, hex(content))]);
            assert!(read(&metadata).accepted_mimes().is_err(), "{content}");
            let metadata = composite([(WellKnownMime::MimeType, hex(content))]);
            assert_eq!(read(&metadata).data_mime().is_err(), content.is_empty(), "{content}");
        }
    }

    /// CMETA-11
    #[test]
    fn an_entry_cut_short_anywhere_is_an_error() {
        let whole = all();
        let mut rest: &[u8] = &whole;
        let mut boundaries = vec![0];
        while !rest.is_empty() {
            (_, rest) = RawEntry::split(rest).unwrap();
            boundaries.push(whole.len() - rest.len());
        }
        for len in 0..=whole.len() {
            let result = Extensions::read(&whole.slice(..len), COMPOSITE_METADATA);
            assert_eq!(result.is_ok(), boundaries.contains(&len), "{len} bytes");
        }
    }

    /// ROUTE-09
    #[test]
    fn a_connection_may_be_about_one_extension() {
        let found = Extensions::read(&hex("01 61"), mime::ROUTING.to_uppercase()).unwrap();
        assert_eq!(found.route().unwrap().unwrap().as_str(), "a");
        let found = Extensions::read(&hex("81 61"), mime::AUTHENTICATION).unwrap();
        assert!(matches!(found.authentication(), Ok(Some(Authentication::Bearer { .. }))));
        let found = Extensions::read(&PARENT.into(), TRACEPARENT).unwrap();
        assert!(matches!(found.trace(), Some(TraceContext::TraceParent(_))));
        for other in ["application/json", "", "a/b"] {
            assert_eq!(Extensions::read(&hex("ff"), other), Ok(Extensions::default()));
        }
    }

    /// TRACE-07
    #[test]
    fn a_trace_that_cannot_be_read_is_none() {
        let parent = (TraceParent::mime(), Bytes::from(PARENT));
        let zipkin = |wire| (Mime::from(WellKnownMime::Tracing), hex(wire));
        let found = read(&composite([zipkin("a0 00"), parent]));
        assert!(matches!(found.trace(), Some(TraceContext::TraceParent(_))));
        assert_eq!(read(&composite([zipkin("")])).trace(), None);
        assert_eq!(read(&composite([(TraceParent::mime(), Bytes::from("00-"))])).trace(), None);
    }

    /// AUTH-12
    #[test]
    fn debug_output_hides_contents() {
        let shown = format!("{:?}", read(&all()));
        assert!(shown.contains("authentication_bytes: Some(4)"), "{shown}");
        assert!(!shown.contains("tok"), "{shown}");
    }
}
