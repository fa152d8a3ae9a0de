//! MIME types as the extensions write them: a well-known id or a name.

use std::{fmt, str::FromStr};

use bytes::{BufMut, Bytes, BytesMut};

pub use crate::metadata::well_known::WellKnownMime;
use crate::metadata::{MetadataError, split};

/// `application/cbor`
pub const CBOR: &str = WellKnownMime::Cbor.as_str();
/// `application/json`
pub const APPLICATION_JSON: &str = WellKnownMime::Json.as_str();
/// `application/octet-stream`
pub const OCTET_STREAM: &str = WellKnownMime::OctetStream.as_str();
/// `text/plain`
pub const TEXT_PLAIN: &str = WellKnownMime::TextPlain.as_str();
/// The type of one stream's data, see [`decode_stream_mime`](super::decode_stream_mime).
pub const MIME_TYPE: &str = WellKnownMime::MimeType.as_str();
/// The data types a requester accepts, see [`AcceptMimes`](super::AcceptMimes).
pub const ACCEPT_MIME_TYPES: &str = WellKnownMime::AcceptMimeTypes.as_str();
/// Credentials, see [`Authentication`](super::Authentication).
pub const AUTHENTICATION: &str = WellKnownMime::Authentication.as_str();
/// Tracing ids, see [`Zipkin`](super::Zipkin).
pub const TRACING_ZIPKIN: &str = WellKnownMime::Tracing.as_str();
/// Routing tags, see [`RoutingTags`](super::RoutingTags).
pub const ROUTING: &str = WellKnownMime::Routing.as_str();
/// The text of a [`TraceParent`](super::TraceParent); named like the header and without a slash,
/// as deployed instrumentation does.
pub const TRACEPARENT: &str = "traceparent";
/// The features that a client declares in SETUP, see [`Features`](super::Features).
pub const FEATURES: &str = "message/x.rsock.features.v0";
/// The server's news that it stops, see [`Notice::Drain`](super::Notice::Drain).
pub const DRAIN: &str = "message/x.rsock.drain.v0";
/// The server's news that credentials expire, see [`Notice::Expires`](super::Notice::Expires).
pub const AUTH: &str = "message/x.rsock.auth.v0";
/// Several entries, each of its own type, see [`CompositeMetadata`](super::CompositeMetadata).
pub const COMPOSITE_METADATA: &str = WellKnownMime::CompositeMetadata.as_str();

/// A MIME type in metadata.
///
/// Two types are equal if their names are, in any ASCII case (RFC 2045); a well-known name
/// decodes and parses to its id, so [`WellKnown`](Self::WellKnown) is all there is to compare
/// with (CMETA-13).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mime {
    /// A type of the table, whether it came as an id or as a name.
    WellKnown(WellKnownMime),
    /// An id in 0x2B..=0x79 that stands for nothing yet. Unknown, not an error (CMETA-08).
    Reserved(u8),
    /// Any other name.
    Custom(CustomMime),
}

impl Mime {
    /// Decodes one type from the front of `buf` and leaves `buf` behind it. Custom names are
    /// slices of `buf`, and not checked: one that is not ASCII is as unknown as any (CMETA-12).
    ///
    /// # Errors
    ///
    /// [`MetadataError::Truncated`] if `buf` is empty or the name runs past its end; `buf` is
    /// then unchanged.
    pub fn decode(buf: &mut Bytes) -> Result<Self, MetadataError> {
        let (head, rest) = split_head(buf, MIME, LengthCoding::MinusOne)?;
        let mime = Self::from_head(head, buf);
        *buf = buf.slice_ref(rest);
        Ok(mime)
    }

    /// Appends the type to `buf`: 1 byte, or for a name 2 to 129 bytes (CMETA-04). Well-known
    /// types go as ids (CMETA-13), except two that deployed peers do not know (WKM-04).
    ///
    /// # Errors
    ///
    /// [`MetadataError::NotAscii`] for a received custom name that may not be forwarded
    /// (CMETA-12), [`MetadataError::NotReserved`] for an id outside 0x2B..=0x79; `buf` is then
    /// unchanged.
    pub fn encode(&self, buf: &mut BytesMut) -> Result<(), MetadataError> {
        match self {
            Self::WellKnown(known) if known.is_deployed() => buf.put_u8(ID_FLAG | known.id()),
            Self::WellKnown(known) => {
                put_name(buf, known.as_str().as_bytes(), MIME, LengthCoding::MinusOne)?;
            }
            Self::Reserved(id) if RESERVED.contains(id) => buf.put_u8(ID_FLAG | id),
            Self::Reserved(id) => {
                return Err(MetadataError::NotReserved { what: "MIME id", id: *id });
            }
            Self::Custom(name) => put_name(buf, &name.0, MIME, LengthCoding::MinusOne)?,
        }
        Ok(())
    }

    /// The type with this name, as SETUP has it: of 0 to 255 bytes that nobody has checked. One
    /// that is no ASCII text of 1 to 128 bytes is not encoded.
    pub fn from_setup(name: Bytes) -> Self {
        match WellKnownMime::from_name(&name) {
            Some(known) => Self::WellKnown(known),
            None => Self::Custom(CustomMime(name)),
        }
    }

    /// The name; none for a reserved id or a name that is not UTF-8.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::WellKnown(known) => Some(known.as_str()),
            Self::Reserved(_) => None,
            Self::Custom(name) => str::from_utf8(name.as_bytes()).ok(),
        }
    }

    /// `head` as split from `whole`.
    pub(super) fn from_head(head: Head<'_>, whole: &Bytes) -> Self {
        match head {
            Head::Id(id) => WellKnownMime::from_id(id).map_or(Self::Reserved(id), Self::WellKnown),
            Head::Name(name) => match WellKnownMime::from_name(name) {
                Some(known) => Self::WellKnown(known),
                None => Self::Custom(CustomMime(whole.slice_ref(name))),
            },
        }
    }
}

impl From<WellKnownMime> for Mime {
    fn from(known: WellKnownMime) -> Self {
        Self::WellKnown(known)
    }
}

/// A type by its name, without a copy: 1 to 128 ASCII bytes.
/// Fails with [`MetadataError::Empty`], `TooLong` or `NotAscii`.
impl TryFrom<Bytes> for Mime {
    type Error = MetadataError;

    fn try_from(name: Bytes) -> Result<Self, MetadataError> {
        check_name(&name, MIME, LengthCoding::MinusOne)?;
        Ok(Self::from_head(Head::Name(&name), &name))
    }
}

/// A type by its name, copied unless it is well known; limits as for `TryFrom<Bytes>`.
impl FromStr for Mime {
    type Err = MetadataError;

    fn from_str(name: &str) -> Result<Self, MetadataError> {
        match WellKnownMime::from_name(name) {
            Some(known) => Ok(Self::WellKnown(known)),
            None => Self::try_from(Bytes::copy_from_slice(name.as_bytes())),
        }
    }
}

impl fmt::Display for Mime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WellKnown(known) => known.fmt(f),
            Self::Reserved(id) => write!(f, "reserved MIME id {id:#04x}"),
            // Escaped, because a peer chose the bytes.
            Self::Custom(name) => name.as_bytes().escape_ascii().fmt(f),
        }
    }
}

/// A name that is not in the table, 1 to 128 bytes, or 0 to 255 if it comes from SETUP. A
/// received one need not be ASCII.
#[derive(Clone, Debug)]
pub struct CustomMime(Bytes);

impl CustomMime {
    /// The name as received or given.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for CustomMime {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for CustomMime {}

/// The meaning of the low 7 bits of a head for the length of the name that follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LengthCoding {
    /// Length - 1, so 1 to 128 bytes: what deployed codecs write, against the letter of the
    /// extensions.
    #[default]
    MinusOne,
    /// The length itself, so 1 to 127 bytes: only rsocket-go's authentication type (AUTH-02).
    Plain,
}

impl LengthCoding {
    const fn bias(self) -> usize {
        match self {
            Self::MinusOne => 1,
            Self::Plain => 0,
        }
    }
}

/// Whether a type that SETUP says is that of composite metadata, in any ASCII case.
pub fn is_composite(connection_mime: &[u8]) -> bool {
    let composite = COMPOSITE_METADATA.as_bytes();
    // Nearly everybody writes it as it is.
    connection_mime == composite || connection_mime.eq_ignore_ascii_case(composite)
}

/// The bit of a head byte that makes the other seven an id.
pub(super) const ID_FLAG: u8 = 0x80;
const RESERVED: std::ops::RangeInclusive<u8> = 0x2B..=0x79;
pub(super) const MIME: &str = "MIME type";

/// A type as written.
#[derive(Clone, Copy)]
pub(super) enum Head<'a> {
    /// 0 to 0x7F.
    Id(u8),
    Name(&'a [u8]),
}

impl Head<'_> {
    /// Whether this is `mime`, decided without decoding (CMETA-13).
    pub(super) fn is(self, mime: &Mime) -> bool {
        match (self, mime) {
            (Self::Id(id), Mime::WellKnown(known)) => known.id() == id,
            (Self::Id(id), Mime::Reserved(reserved)) => *reserved == id,
            (Self::Name(name), Mime::WellKnown(known)) => {
                name.eq_ignore_ascii_case(known.as_str().as_bytes())
            }
            (Self::Name(name), Mime::Custom(custom)) => {
                name.eq_ignore_ascii_case(custom.as_bytes())
            }
            (Self::Id(_), Mime::Custom(_)) | (Self::Name(_), Mime::Reserved(_)) => false,
        }
    }
}

/// Splits head and name off the front of `buf`: `(head, rest)`.
pub(super) fn split_head<'a>(
    buf: &'a [u8],
    what: &'static str,
    coding: LengthCoding,
) -> Result<(Head<'a>, &'a [u8]), MetadataError> {
    let Some((&head, rest)) = buf.split_first() else {
        return Err(MetadataError::Truncated { what, needed: 1, available: 0 });
    };
    if head & ID_FLAG != 0 {
        return Ok((Head::Id(head & !ID_FLAG), rest));
    }
    let len = usize::from(head) + coding.bias();
    if len == 0 {
        return Err(MetadataError::Truncated { what, needed: 1, available: 0 });
    }
    let (name, rest) = split(rest, len, what)?;
    Ok((Head::Name(name), rest))
}

/// Appends head and name, or nothing if the name is refused.
pub(super) fn put_name(
    buf: &mut BytesMut,
    name: &[u8],
    what: &'static str,
    coding: LengthCoding,
) -> Result<(), MetadataError> {
    check_name(name, what, coding)?;
    buf.reserve(1 + name.len());
    // Below 0x80, as just checked.
    buf.put_u8((name.len() - coding.bias()) as u8);
    buf.put_slice(name);
    Ok(())
}

fn check_name(name: &[u8], what: &'static str, coding: LengthCoding) -> Result<(), MetadataError> {
    let max = 0x7F + coding.bias();
    match name.len() {
        0 => Err(MetadataError::Empty { what }),
        len if len > max => Err(MetadataError::TooLong { what, len, max }),
        _ if !name.is_ascii() => Err(MetadataError::NotAscii { what }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::testing::{hex, is_slice_of};

    fn encoded(mime: &Mime) -> Result<Bytes, MetadataError> {
        let mut buf = BytesMut::new();
        mime.encode(&mut buf)?;
        Ok(buf.freeze())
    }

    #[test]
    fn a_custom_name_is_written_with_its_length_minus_one() {
        let mime: Mime = "x/y".parse().unwrap();
        assert_eq!(encoded(&mime).unwrap(), hex("02 782f79"));

        let wire = hex("02 782f79 ff");
        let mut rest = wire.clone();
        let decoded = Mime::decode(&mut rest).unwrap();
        assert_eq!((decoded.as_str(), &rest), (Some("x/y"), &hex("ff")));
        let Mime::Custom(name) = decoded else { panic!("{decoded:?}") };
        assert!(is_slice_of(name.as_bytes(), &wire));
    }

    #[test]
    fn names_have_1_to_128_bytes() {
        for len in [1, 127, 128] {
            let mime: Mime = "x".repeat(len).parse().unwrap();
            let mut wire = encoded(&mime).unwrap();
            assert_eq!((wire.len(), usize::from(wire[0])), (1 + len, len - 1));
            assert_eq!(Mime::decode(&mut wire).unwrap(), mime);
            assert!(wire.is_empty());
        }
        let too_long = MetadataError::TooLong { what: MIME, len: 129, max: 128 };
        assert_eq!("x".repeat(129).parse::<Mime>(), Err(too_long));
        assert_eq!("".parse::<Mime>(), Err(MetadataError::Empty { what: MIME }));
        assert_eq!("x/ü".parse::<Mime>(), Err(MetadataError::NotAscii { what: MIME }));
    }

    #[test]
    fn a_well_known_name_equals_its_id() {
        for name in [ROUTING.to_owned(), ROUTING.to_uppercase()] {
            let mut wire = BytesMut::new();
            wire.put_u8(name.len() as u8 - 1);
            wire.put_slice(name.as_bytes());
            let decoded = Mime::decode(&mut wire.freeze()).unwrap();
            assert_eq!(decoded, Mime::WellKnown(WellKnownMime::Routing));
            assert_eq!(name.parse(), Ok(decoded.clone()));
            assert_eq!(encoded(&decoded).unwrap(), hex("fe"));
        }
    }

    #[test]
    fn ids_no_peer_knows_are_sent_as_names() {
        for (id, name) in [(0xa9, "application/x-capnp"), (0xaa, "application/x-flatbuffers")] {
            let decoded = Mime::decode(&mut Bytes::copy_from_slice(&[id])).unwrap();
            assert_eq!(decoded.as_str(), Some(name));
            let wire = encoded(&decoded).unwrap();
            assert_eq!(&wire[1..], name.as_bytes());
            assert_eq!(Mime::decode(&mut wire.clone()), Ok(decoded));
        }
    }

    #[test]
    fn every_id_keeps_its_value() {
        for id in 0..=0x7F {
            let decoded = Mime::decode(&mut Bytes::copy_from_slice(&[ID_FLAG | id])).unwrap();
            assert_eq!(matches!(decoded, Mime::Reserved(_)), RESERVED.contains(&id));
            if !matches!(id, 0x29 | 0x2A) {
                assert_eq!(encoded(&decoded).unwrap(), [ID_FLAG | id].as_slice());
            }
        }
    }

    #[test]
    fn only_reserved_ids_are_encoded_as_reserved() {
        for id in [0x05, 0x2A, 0x7A, 0x80, 0xFF] {
            let refused = MetadataError::NotReserved { what: "MIME id", id };
            assert_eq!(encoded(&Mime::Reserved(id)), Err(refused));
        }
    }

    #[test]
    fn a_name_outside_ascii_decodes_but_is_not_sent() {
        let mime = Mime::decode(&mut hex("01 ff1b")).unwrap();
        assert_eq!((mime.as_str(), mime.to_string().as_str()), (None, r"\xff\x1b"));
        assert_eq!(encoded(&mime), Err(MetadataError::NotAscii { what: MIME }));
    }

    #[test]
    fn a_truncated_type_leaves_the_input_alone() {
        for (wire, needed, available) in [("", 1, 0), ("00", 1, 0), ("02 782f", 3, 2)] {
            let mut rest = hex(wire);
            let truncated = MetadataError::Truncated { what: MIME, needed, available };
            assert_eq!(Mime::decode(&mut rest), Err(truncated));
            assert_eq!(rest, hex(wire));
        }
    }

    #[test]
    fn custom_names_are_compared_in_any_case() {
        let (lower, upper): (Mime, Mime) = ("x/y".parse().unwrap(), "X/Y".parse().unwrap());
        assert_eq!(lower, upper);
        assert_ne!(lower, "x/z".parse().unwrap());
        assert!(Head::Name(b"x/Y").is(&lower));
        assert!(!Head::Id(0x05).is(&lower));
    }
}
