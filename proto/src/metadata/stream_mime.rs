//! Per-stream MIME types: what one stream's data is, and what its requester accepts.
//!
//! Both are written as types alone, without a content length (MIME-01).

use std::iter::FusedIterator;

use bytes::{Bytes, BytesMut};

use crate::metadata::{
    MetadataError, Mime,
    mime::{LengthCoding, MIME, split_head},
};

/// The data type of one stream, from the content of a
/// [`MimeType`](super::WellKnownMime::MimeType) entry.
///
/// Without such an entry the data type of the SETUP frame holds (MIME-02), of several entries
/// the first (MIME-07). What to make of [`Mime::Reserved`] is for the application (MIME-10).
/// Bytes behind the type are ignored: deployed encoders can write a list.
///
/// # Errors
///
/// [`MetadataError::Truncated`] if the content is empty or the name runs past its end
/// (MIME-09).
pub fn decode_stream_mime(content: &Bytes) -> Result<Mime, MetadataError> {
    Mime::decode(&mut content.clone())
}

/// The content of a [`MimeType`](super::WellKnownMime::MimeType) entry.
///
/// # Errors
///
/// Those of [`Mime::encode`].
pub fn encode_stream_mime(mime: &Mime) -> Result<Bytes, MetadataError> {
    let mut buf = BytesMut::new();
    mime.encode(&mut buf)?;
    Ok(buf.freeze())
}

/// The data types a requester accepts, from the content of an
/// [`AcceptMimeTypes`](super::WellKnownMime::AcceptMimeTypes) entry, the preferred one first
/// (MIME-07).
///
/// Reserved ids are skipped (MIME-10), so there may be none: the default type is then used. A
/// list that came from a responder is to be ignored (MIME-06).
///
/// The item is [`MetadataError::Truncated`] if the content is empty or a name runs past its end
/// (MIME-09), and nothing follows it.
#[derive(Clone, Debug)]
pub struct AcceptMimes {
    rest: Bytes,
    is_done: bool,
}

impl AcceptMimes {
    /// The types in `content`.
    pub fn new(content: Bytes) -> Self {
        Self { rest: content, is_done: false }
    }

    /// No types, as where nothing is said of them.
    pub(super) const fn none() -> Self {
        Self { rest: Bytes::new(), is_done: true }
    }

    /// Whether all types of the list are whole, without slicing any of them out.
    pub(super) fn check(&self) -> Result<(), MetadataError> {
        let mut rest: &[u8] = &self.rest;
        loop {
            (_, rest) = split_head(rest, MIME, LengthCoding::MinusOne)?;
            if rest.is_empty() {
                return Ok(());
            }
        }
    }
}

impl Iterator for AcceptMimes {
    type Item = Result<Mime, MetadataError>;

    fn next(&mut self) -> Option<Self::Item> {
        // Empty content still has its error to yield: the end is the end of the last type.
        while !self.is_done {
            let decoded = Mime::decode(&mut self.rest);
            self.is_done = decoded.is_err() || self.rest.is_empty();
            if !matches!(decoded, Ok(Mime::Reserved(_))) {
                return Some(decoded);
            }
        }
        None
    }
}

impl FusedIterator for AcceptMimes {}

/// The content of an [`AcceptMimeTypes`](super::WellKnownMime::AcceptMimeTypes) entry; the
/// preferred type goes first.
///
/// # Errors
///
/// [`MetadataError::Empty`] without types, and those of [`Mime::encode`].
pub fn encode_accept_mimes<'a>(
    mimes: impl IntoIterator<Item = &'a Mime>,
) -> Result<Bytes, MetadataError> {
    let mut buf = BytesMut::new();
    for mime in mimes {
        mime.encode(&mut buf)?;
    }
    if buf.is_empty() {
        return Err(MetadataError::Empty { what: "list of accepted MIME types" });
    }
    Ok(buf.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{WellKnownMime, testing::hex};

    fn accepted(wire: &str) -> Vec<Result<Mime, MetadataError>> {
        let mut mimes = AcceptMimes::new(hex(wire));
        let all = mimes.by_ref().collect();
        assert_eq!(mimes.next(), None);
        all
    }

    fn is_truncated(item: Option<&Result<Mime, MetadataError>>) -> bool {
        matches!(item, Some(Err(MetadataError::Truncated { .. })))
    }

    #[test]
    fn the_golden_vectors_hold_both_ways() {
        let mimes =
            [WellKnownMime::Json.into(), WellKnownMime::Cbor.into(), "x/y".parse().unwrap()];
        assert_eq!(encode_accept_mimes(&mimes).unwrap(), hex("85 81 02 782f79"));
        assert_eq!(accepted("85 81 02 782f79"), mimes.map(Ok));
    }

    #[test]
    fn a_stream_has_one_type() {
        for (wire, mime) in [("85", Mime::from(WellKnownMime::Json)), ("ab", Mime::Reserved(0x2B))]
        {
            assert_eq!(decode_stream_mime(&hex(wire)), Ok(mime.clone()));
            assert_eq!(encode_stream_mime(&mime).unwrap(), hex(wire));
        }
        assert_eq!(decode_stream_mime(&hex("85 81")), Ok(WellKnownMime::Json.into()));
    }

    #[test]
    fn empty_or_truncated_content_is_an_error() {
        for wire in ["", "05 61", "00"] {
            let decoded = decode_stream_mime(&hex(wire));
            assert!(is_truncated(Some(&decoded)), "{wire} is {decoded:?}");
            let accepted = accepted(wire);
            assert!(accepted.len() == 1 && is_truncated(accepted.first()), "{accepted:?}");
        }
        let accepted = accepted("85 81 05 61");
        assert!(accepted.len() == 3 && is_truncated(accepted.last()), "{accepted:?}");
    }

    #[test]
    fn reserved_ids_are_not_accepted_types() {
        assert_eq!(accepted("ab 85"), [Ok(WellKnownMime::Json.into())]);
        assert_eq!(accepted("ab ac f9"), []);
        assert!(is_truncated(accepted("ab 05 61").first()));
    }

    #[test]
    fn many_reserved_ids_take_linear_time() {
        let mut mimes = AcceptMimes::new(vec![0xAB; 4_000_000].into());
        assert_eq!(mimes.next(), None);
    }

    #[test]
    fn no_accepted_type_is_not_a_list() {
        assert!(matches!(encode_accept_mimes([]), Err(MetadataError::Empty { .. })));
    }
}
