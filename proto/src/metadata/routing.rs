//! Routing metadata: tags, each a u8 length and that many bytes of UTF-8, to the end.

use std::{fmt, iter::FusedIterator};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::metadata::{
    MetadataError, Mime, WellKnownMime,
    composite::{RawEntry, find_content},
    mime::{Head, ID_FLAG, ROUTING, is_composite},
    split,
};

/// The route of a request: the first tag of the first routing entry.
///
/// `connection_mime` is the metadata MIME type of the SETUP frame, in any ASCII case. Composite
/// metadata is searched for its first routing entry; if the connection's type is routing itself,
/// the metadata is the tags (ROUTE-09). No route if the type is another, or there is no
/// routing entry, or no tag in it; a tag of no bytes is the route `""` (ROUTE-05).
///
/// Allocates nothing; the route is a slice of `metadata`. Composite entries behind the routing
/// entry are not looked at, and neither is the text of the other tags (ROUTE-03).
///
/// # Errors
///
/// [`MetadataError::Truncated`] if a composite entry up to the routing entry is cut short
/// (CMETA-11) or any of its tags is (ROUTE-06), [`MetadataError::NotUtf8`] if the first tag
/// is not UTF-8 (ROUTE-07).
pub fn first_route(
    metadata: &Bytes,
    connection_mime: impl AsRef<[u8]>,
) -> Result<Option<Route>, MetadataError> {
    let connection_mime = connection_mime.as_ref();
    let tags = if is_composite(connection_mime) {
        find_content(metadata, &Mime::WellKnown(WellKnownMime::Routing))?
    } else if connection_mime.eq_ignore_ascii_case(ROUTING.as_bytes()) {
        Some(metadata.as_ref())
    } else {
        None
    };
    tags.map_or(Ok(None), |tags| first_tag(&metadata.slice_ref(tags)))
}

/// The first of `tags`, all of which are checked to be whole.
pub(super) fn first_tag(tags: &Bytes) -> Result<Option<Route>, MetadataError> {
    let first = first_whole(tags)?;
    first.map(|first| Route::try_from(tags.slice_ref(first))).transpose()
}

fn first_whole(tags: &[u8]) -> Result<Option<&[u8]>, MetadataError> {
    if tags.is_empty() {
        return Ok(None);
    }
    let (first, mut rest) = split_tag(tags)?;
    while !rest.is_empty() {
        (_, rest) = split_tag(rest)?;
    }
    Ok(Some(first))
}

/// The bytes of the route in composite metadata in which nothing else has to be read to know that they
/// are right: of what [`Extensions::read`](super::Extensions::read) and its `route` would find, all but
/// whether it is UTF-8 (ROUTE-07).
///
/// `None` where that is not so: there is no route, something is malformed, or there are types of data,
/// which might be.
pub fn plain_route(composite: &[u8]) -> Option<&[u8]> {
    const ROUTING: u8 = WellKnownMime::Routing.id();
    const OF_DATA: [u8; 2] = [WellKnownMime::MimeType.id(), WellKnownMime::AcceptMimeTypes.id()];
    let (mut rest, mut tags) = (composite, None);
    while !rest.is_empty() {
        let (entry, behind) = RawEntry::split(rest).ok()?;
        rest = behind;
        match entry.head {
            Head::Id(ROUTING) => _ = tags.get_or_insert(entry.content),
            Head::Id(id) if !OF_DATA.contains(&id) => {}
            // A name may be that of any type.
            Head::Id(_) | Head::Name(_) => return None,
        }
    }
    first_whole(tags?).ok()?
}

/// Composite metadata that go on with a routing entry with this one tag, in memory of just their size.
///
/// # Errors
///
/// [`MetadataError::TooLong`] for a route over 255 bytes of UTF-8, which is never cut (ROUTE-04).
pub fn append_route(before: &[u8], route: &str) -> Result<Bytes, MetadataError> {
    let len = tag_len(route)?;
    let [high, low] = (u16::from(len) + 1).to_be_bytes();
    let head = [ID_FLAG | WellKnownMime::Routing.id(), 0, high, low, len];
    let mut metadata = Vec::with_capacity(before.len() + head.len() + route.len());
    metadata.extend_from_slice(before);
    metadata.extend_from_slice(&head);
    metadata.extend_from_slice(route.as_bytes());
    Ok(metadata.into())
}

fn tag_len(tag: &str) -> Result<u8, MetadataError> {
    let max = usize::from(u8::MAX);
    u8::try_from(tag.len()).map_err(|_| MetadataError::TooLong { what: TAG, len: tag.len(), max })
}

/// A tag that is UTF-8, at most 255 bytes if it was received. A peer chose the text: `Debug`
/// escapes it, `Display` does not.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Route(Bytes);

impl Route {
    /// The text. Checks it again, in time linear in its length: keep the result, if need be.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("a route is made of bytes that were checked to be UTF-8")
    }

    /// The bytes, which are UTF-8.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

/// A route from tag bytes; [`MetadataError::NotUtf8`] if they are not (ROUTE-07).
impl TryFrom<Bytes> for Route {
    type Error = MetadataError;

    fn try_from(tag: Bytes) -> Result<Self, MetadataError> {
        match str::from_utf8(&tag) {
            Ok(_) => Ok(Self(tag)),
            Err(error) => {
                Err(MetadataError::NotUtf8 { what: TAG, valid_up_to: error.valid_up_to() })
            }
        }
    }
}

impl AsRef<str> for Route {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

/// The tags of routing metadata, in order (ROUTE-01, ROUTE-03): 0 to 255 bytes each, slices
/// of the metadata, not checked to be UTF-8. [`Route`] is, and made from one.
///
/// A tag takes at least 1 byte, so the size of the metadata bounds their number. The item is
/// [`MetadataError::Truncated`] if a tag runs past the end (ROUTE-06), and nothing follows it.
#[derive(Clone, Debug)]
pub struct RoutingTags {
    rest: Bytes,
}

impl RoutingTags {
    /// The tags of `content`, a routing entry or the metadata as a whole. There may be none.
    pub fn new(content: Bytes) -> Self {
        Self { rest: content }
    }
}

impl Iterator for RoutingTags {
    type Item = Result<Bytes, MetadataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match split_tag(&self.rest) {
            Ok((tag, rest)) => {
                let tag = self.rest.slice_ref(tag);
                let consumed = self.rest.len() - rest.len();
                self.rest.advance(consumed);
                Some(Ok(tag))
            }
            Err(error) => {
                self.rest.clear();
                Some(Err(error))
            }
        }
    }
}

impl FusedIterator for RoutingTags {}

/// Routing metadata with these tags, in order; the first is the route by convention.
///
/// # Errors
///
/// [`MetadataError::TooLong`] for a tag over 255 bytes of UTF-8, which is never cut (ROUTE-04).
pub fn encode_tags<I>(tags: I) -> Result<Bytes, MetadataError>
where
    I: IntoIterator<Item: AsRef<str>>,
{
    let mut buf = BytesMut::new();
    for tag in tags {
        let tag = tag.as_ref();
        let len = tag_len(tag)?;
        buf.reserve(1 + tag.len());
        buf.put_u8(len);
        buf.put_slice(tag.as_bytes());
    }
    Ok(buf.freeze())
}

const TAG: &str = "routing tag";

/// Splits a tag off the front of `buf`: `(tag, rest)`.
fn split_tag(buf: &[u8]) -> Result<(&[u8], &[u8]), MetadataError> {
    let Some((&len, buf)) = buf.split_first() else {
        return Err(MetadataError::Truncated { what: TAG, needed: 1, available: 0 });
    };
    split(buf, usize::from(len), TAG)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{
        CompositeBuilder, Extensions, encode_stream_mime, mime,
        mime::COMPOSITE_METADATA,
        testing::{hex, is_slice_of},
    };

    fn composite(routing: &Bytes) -> Bytes {
        let mut builder = CompositeBuilder::new();
        builder.push(WellKnownMime::Json, "{}").unwrap();
        builder.push(WellKnownMime::Routing, routing).unwrap();
        builder.push(WellKnownMime::Routing, "\x05other").unwrap();
        builder.finish()
    }

    /// The route, both inside composite metadata and bare: they always agree.
    fn route_of(tags: &str) -> Result<Option<Route>, MetadataError> {
        let tags = hex(tags);
        let bare = first_route(&tags, ROUTING);
        let composite = composite(&tags);
        assert_eq!(bare, first_route(&composite, COMPOSITE_METADATA));
        let plain = plain_route(&composite).and_then(|route| str::from_utf8(route).ok());
        assert_eq!(plain, bare.as_ref().ok().and_then(Option::as_ref).map(Route::as_str));
        bare
    }

    #[test]
    fn the_route_is_the_first_tag() {
        for tags in ["05 612f6f6e65", "05 612f6f6e65 01 62 00"] {
            let route = route_of(tags).unwrap().unwrap();
            assert_eq!(route.as_str(), "a/one");
            assert_eq!(route.to_string(), "a/one");
        }
        let metadata = composite(&hex("05 612f6f6e65"));
        let route = first_route(&metadata, COMPOSITE_METADATA).unwrap().unwrap();
        assert!(is_slice_of(&route.into_bytes(), &metadata));
    }

    /// CMETA-11, MIME-09: whoever has found it need not look at the rest.
    #[test]
    fn a_plain_route_is_one_beside_which_nothing_can_be_wrong() {
        let plain = |parts: &[&[u8]]| {
            let metadata = Bytes::from(parts.concat());
            let found =
                plain_route(&metadata).map(|route| String::from_utf8_lossy(route).into_owned());
            if let Some(route) = &found {
                let read = Extensions::read(&metadata, COMPOSITE_METADATA).unwrap();
                assert!(read.data_mime().is_ok() && read.accepted_mimes().is_ok());
                assert_eq!(read.route().unwrap().unwrap().as_str(), route);
            }
            found
        };
        let route = append_route(&[], "a").unwrap();
        let of = |mime: WellKnownMime, content: &[u8]| {
            let mut entry = CompositeBuilder::new();
            entry.push(mime, content).unwrap();
            entry.finish()
        };
        let json = encode_stream_mime(&WellKnownMime::Json.into()).unwrap();
        let credentials = of(WellKnownMime::Authentication, b"");
        assert_eq!(plain(&[&route]).as_deref(), Some("a"));
        assert_eq!(plain(&[&credentials, &route, &credentials]).as_deref(), Some("a"));
        for other in [
            of(WellKnownMime::MimeType, &json),
            of(WellKnownMime::MimeType, b""),
            of(WellKnownMime::AcceptMimeTypes, b""),
            // By a name, and cut short.
            hex("02 782f79 000000"),
            hex("85 000001"),
        ] {
            assert_eq!((plain(&[&other, &route]), plain(&[&route, &other])), (None, None));
        }
        assert_eq!(plain(&[&credentials]), None);
    }

    /// ROUTE-04
    #[test]
    fn a_route_is_appended_as_the_builder_writes_it() {
        let long = "x".repeat(255);
        for route in ["", "a/one", &long] {
            let (mut before, mut both) = (CompositeBuilder::new(), CompositeBuilder::new());
            for builder in [&mut before, &mut both] {
                builder.push(WellKnownMime::Json, "{}").unwrap();
            }
            both.push(WellKnownMime::Routing, encode_tags([route]).unwrap()).unwrap();
            assert_eq!(append_route(&before.finish(), route).unwrap(), both.finish());
        }
        assert!(append_route(&[], &"x".repeat(256)).is_err());
    }

    #[test]
    fn the_route_of_the_golden_vector_is_found() {
        let wire = hex("fe 000006 05 612f6f6e65 · 02 782f79 000002 0102");
        let route = first_route(&wire, b"Message/X.RSocket.Composite-Metadata.v0").unwrap();
        assert_eq!(route.unwrap().as_str(), "a/one");
    }

    #[test]
    fn there_need_not_be_a_route() {
        let tags = hex("01 61");
        assert_eq!(first_route(&tags, mime::APPLICATION_JSON), Ok(None));
        assert_eq!(first_route(&tags, ""), Ok(None));
        assert_eq!(route_of(""), Ok(None));
        assert_eq!(first_route(&Bytes::new(), COMPOSITE_METADATA), Ok(None));
        assert_eq!(first_route(&hex("85 000000"), COMPOSITE_METADATA), Ok(None));
    }

    #[test]
    fn tags_have_0_to_255_bytes() {
        assert_eq!(route_of("00").unwrap().unwrap().as_str(), "");
        let long = "x".repeat(255);
        let wire = encode_tags(["", &long]).unwrap();
        assert_eq!((wire.len(), &wire[..2]), (257, [0, 255].as_slice()));
        let tags: Vec<_> = RoutingTags::new(wire).map(Result::unwrap).collect();
        assert_eq!(tags, ["", &long]);

        // 86 times three bytes: it is bytes that count.
        let refused = encode_tags(["ok".to_owned(), "€".repeat(86)]);
        assert_eq!(refused, Err(MetadataError::TooLong { what: TAG, len: 258, max: 255 }));
        let one_over = encode_tags(["x".repeat(256)]);
        assert_eq!(one_over, Err(MetadataError::TooLong { what: TAG, len: 256, max: 255 }));
    }

    #[test]
    fn tags_keep_their_order() {
        assert_eq!(encode_tags(["a/one", "b"]).unwrap(), hex("05 612f6f6e65 01 62"));
        assert_eq!(encode_tags([""; 0]).unwrap(), Bytes::new());
        let tags: Vec<_> = RoutingTags::new(hex("0161 00 0162")).map(Result::unwrap).collect();
        assert_eq!(tags, ["a", "", "b"]);
    }

    #[test]
    fn a_tag_past_the_end_is_an_error_wherever_it_is() {
        let truncated = MetadataError::Truncated { what: TAG, needed: 255, available: 1 };
        for tags in ["ff 61", "01 61 ff 61"] {
            assert_eq!(route_of(tags), Err(truncated));
            let mut tags = RoutingTags::new(hex(tags));
            assert_eq!(tags.by_ref().last(), Some(Err(truncated)));
            assert_eq!(tags.next(), None);
        }
    }

    #[test]
    fn a_route_that_is_not_utf8_is_an_error() {
        let wrong = MetadataError::NotUtf8 { what: TAG, valid_up_to: 0 };
        assert_eq!(route_of("02 fffe"), Err(wrong));
        // The text of a tag that is no route does not matter.
        assert_eq!(route_of("01 61 02 fffe").unwrap().unwrap().as_str(), "a");
    }

    #[test]
    fn a_truncated_composite_entry_matters_up_to_the_route() {
        let before = hex("85 000010 00");
        assert!(first_route(&before, COMPOSITE_METADATA).is_err());
        let behind = hex("fe 000002 0161 85 000010 00");
        assert!(first_route(&behind, COMPOSITE_METADATA).unwrap().is_some());
    }

    #[test]
    fn many_empty_tags_are_walked_once() {
        let tags = Bytes::from(vec![0; 65_536]);
        assert_eq!(RoutingTags::new(tags.clone()).filter(Result::is_ok).count(), 65_536);
        assert_eq!(first_route(&tags, ROUTING).unwrap().unwrap().as_str(), "");
    }
}
