//! Metadata of the extensions inside a payload's: composite metadata, routing,
//! authentication, per-stream MIME types and tracing.
//!
//! Every codec works on bytes that are already complete. Decoders hand out slices of their
//! input and never copy it, never recurse, and run in time linear in the input. Encoders refuse
//! what does not fit and never cut.
//!
//! No failure in here concerns the connection: a request whose metadata cannot be read fails
//! alone, and its neighbours go on (CMETA-11). [`MetadataError::is_violation`] says whose
//! mistake it was.
//!
//! ```
//! use rsock_proto::metadata::mime::COMPOSITE_METADATA;
//! use rsock_proto::metadata::{CompositeBuilder, WellKnownMime, encode_tags, first_route};
//!
//! # fn main() -> Result<(), rsock_proto::metadata::MetadataError> {
//! let mut builder = CompositeBuilder::new();
//! builder.push(WellKnownMime::Routing, encode_tags(["a/one"])?)?;
//! let metadata = builder.finish();
//!
//! let route = first_route(&metadata, COMPOSITE_METADATA)?;
//! assert_eq!(route.as_ref().map(|route| route.as_str()), Some("a/one"));
//! # Ok(())
//! # }
//! ```

mod auth;
mod composite;
mod extensions;
pub mod mime;
mod notice;
mod routing;
mod stream_mime;
mod tracing;
mod well_known;

use std::{error::Error, fmt};

pub use auth::Authentication;
pub use composite::{CompositeBuilder, CompositeMetadata, Entry, append_entry};
pub use extensions::Extensions;
pub use mime::{CustomMime, LengthCoding, Mime, WellKnownMime};
pub use notice::{Features, Notice};
pub use routing::{Route, RoutingTags, append_route, encode_tags, first_route, plain_route};
pub use stream_mime::{AcceptMimes, decode_stream_mime, encode_accept_mimes, encode_stream_mime};
pub use tracing::{Sampling, TraceContext, TraceId, TraceParent, Zipkin, ZipkinSpan};

/// Why metadata could not be decoded or encoded.
///
/// `what` names the part at fault, all lengths are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetadataError {
    /// Decoding: a length runs past the end of the metadata (CMETA-11, ROUTE-06, AUTH-05,
    /// MIME-09).
    Truncated {
        /// The part that is cut short.
        what: &'static str,
        /// Bytes the part should have had.
        needed: usize,
        /// Bytes that were left.
        available: usize,
    },
    /// Decoding: text is not UTF-8 (ROUTE-07).
    NotUtf8 {
        /// The part that is not UTF-8.
        what: &'static str,
        /// Offset of the first wrong byte.
        valid_up_to: usize,
    },
    /// Decoding: text is not of the form its type has.
    Malformed {
        /// The part at fault.
        what: &'static str,
        /// The form.
        expected: &'static str,
    },
    /// Encoding: a value is longer than its length field can say (CMETA-04, CMETA-14,
    /// ROUTE-04).
    TooLong {
        /// The part that is too long.
        what: &'static str,
        /// Its length.
        len: usize,
        /// The most the wire can carry.
        max: usize,
    },
    /// Encoding: a value needs at least one byte or element and has none.
    Empty {
        /// The part that is empty.
        what: &'static str,
    },
    /// Encoding: a type name has a byte outside ASCII (CMETA-12).
    NotAscii {
        /// The part that is not ASCII.
        what: &'static str,
    },
    /// Encoding: an id was given as reserved that is assigned, or above 0x7F (CMETA-08).
    NotReserved {
        /// The kind of id.
        what: &'static str,
        /// The id.
        id: u8,
    },
}

impl MetadataError {
    /// Whether the peer is to blame: true for what only decoding finds, to be answered with
    /// ERROR\[INVALID\] on that stream; false for values the local caller may not encode.
    pub const fn is_violation(&self) -> bool {
        matches!(self, Self::Truncated { .. } | Self::NotUtf8 { .. } | Self::Malformed { .. })
    }
}

impl fmt::Display for MetadataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { what, needed, available } => {
                write!(f, "{what} is truncated: expected {needed} bytes, {available} are left")
            }
            Self::NotUtf8 { what, valid_up_to } => {
                write!(f, "{what} is not UTF-8 at byte {valid_up_to}")
            }
            Self::Malformed { what, expected } => {
                write!(f, "{what} is malformed: expected {expected}")
            }
            Self::TooLong { what, len, max } => {
                write!(f, "{what} is {len} bytes long: expected at most {max}")
            }
            Self::Empty { what } => {
                write!(f, "{what} is empty: expected at least one byte or element")
            }
            Self::NotAscii { what } => write!(f, "{what} is not ASCII: expected bytes below 0x80"),
            Self::NotReserved { what, id } => {
                write!(f, "{what} {id:#04x} is not reserved: expected an unassigned id below 0x80")
            }
        }
    }
}

impl Error for MetadataError {}

/// Splits `len` bytes off the front: `(front, rest)`.
fn split<'a>(
    buf: &'a [u8],
    len: usize,
    what: &'static str,
) -> Result<(&'a [u8], &'a [u8]), MetadataError> {
    let available = buf.len();
    buf.split_at_checked(len).ok_or(MetadataError::Truncated { what, needed: len, available })
}

#[cfg(test)]
mod testing {
    use bytes::Bytes;

    /// Bytes from hex digits; spaces and `·` only separate.
    pub(super) fn hex(text: &str) -> Bytes {
        let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
        assert_eq!(digits.len() % 2, 0, "odd number of hex digits in {text}");
        digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
    }

    /// Whether `part` lies inside `whole` in memory, that is, was not copied.
    pub(super) fn is_slice_of(part: &[u8], whole: &[u8]) -> bool {
        let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
        whole.start <= part.start && part.end <= whole.end
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// Runs every decoder over `input` to its end.
    fn decode_all(input: &Bytes) {
        for entry in CompositeMetadata::new(input.clone()).flatten() {
            _ = entry.mime.as_str();
        }
        _ = CompositeMetadata::new(input.clone()).find(WellKnownMime::Tracing);
        _ = RoutingTags::new(input.clone()).count();
        _ = first_route(input, mime::COMPOSITE_METADATA);
        _ = first_route(input, mime::ROUTING);
        _ = plain_route(input);
        _ = Authentication::decode(input);
        _ = Authentication::decode_with(input, LengthCoding::Plain);
        _ = decode_stream_mime(input);
        _ = AcceptMimes::new(input.clone()).count();
        _ = Zipkin::decode(input);
        _ = TraceParent::decode(input);
        _ = Features::decode(input);
        _ = Features::find(input, mime::COMPOSITE_METADATA);
        _ = Notice::find(input, mime::COMPOSITE_METADATA);
        for connection_mime in [mime::COMPOSITE_METADATA, mime::AUTHENTICATION] {
            let Ok(found) = Extensions::read(input, connection_mime) else { continue };
            _ = (found.route(), found.data_mime(), found.accepted_mimes(), found.trace());
            _ = found.authentication();
        }
    }

    #[test]
    fn every_input_of_two_bytes_is_survived() {
        for n in 0..=u16::MAX {
            decode_all(&Bytes::copy_from_slice(&n.to_be_bytes()));
        }
    }

    #[test]
    fn noise_is_survived() {
        let mut state = 1_u64;
        for round in 0..50_000 {
            let noise: Vec<u8> = (0..round % 67)
                .map(|_| {
                    state =
                        state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    // Half of the bytes are small, so that lengths often fit.
                    let byte = (state >> 33) as u8;
                    if state >> 63 == 0 { byte % 4 } else { byte }
                })
                .collect();
            decode_all(&noise.into());
        }
    }

    #[test]
    fn messages_say_what_was_wrong_and_what_was_expected() {
        let truncated = MetadataError::Truncated { what: "routing tag", needed: 255, available: 1 };
        assert_eq!(
            truncated.to_string(),
            "routing tag is truncated: expected 255 bytes, 1 are left"
        );
        assert!(truncated.is_violation());

        let too_long = MetadataError::TooLong { what: "routing tag", len: 256, max: 255 };
        assert_eq!(too_long.to_string(), "routing tag is 256 bytes long: expected at most 255");
        assert!(!too_long.is_violation());

        let reserved = MetadataError::NotReserved { what: "MIME id", id: 5 };
        assert_eq!(
            reserved.to_string(),
            "MIME id 0x05 is not reserved: expected an unassigned id below 0x80"
        );
    }
}
