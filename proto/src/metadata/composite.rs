//! Composite metadata: entries of different types, one after the other.
//!
//! ```text
//! | head 1 | name 0..=128 | content length u24 | content |  repeated to the end
//! ```

use std::{fmt, iter::FusedIterator};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::metadata::{
    MetadataError, Mime,
    mime::{Head, LengthCoding, split_head},
    split,
};

/// One entry of composite metadata.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The type of the content.
    pub mime: Mime,
    /// The content, up to 2^24 - 1 bytes, possibly none (CMETA-10). It is never looked into:
    /// composite metadata inside is opaque like anything else.
    pub content: Bytes,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The content may hold credentials, which are never logged (AUTH-12).
        f.debug_struct("Entry")
            .field("mime", &self.mime)
            .field("content_bytes", &self.content.len())
            .finish()
    }
}

/// The entries of composite metadata, in order, repeated types included (CMETA-02, -05,
/// -06).
///
/// Each step reads one entry and slices it out: no copy, no allocation, and nothing behind it is
/// looked at (CMETA-15). An entry takes at least 4 bytes, so the size of the metadata bounds
/// their number. Types that mean nothing here are entries like any other (CMETA-07, -08).
///
/// The item is [`MetadataError::Truncated`] if an entry is cut short or runs past the end
/// (CMETA-11), and nothing follows it.
#[derive(Clone)]
pub struct CompositeMetadata {
    rest: Bytes,
}

impl CompositeMetadata {
    /// The entries of `metadata`, which may be empty (CMETA-10).
    pub fn new(metadata: Bytes) -> Self {
        Self { rest: metadata }
    }

    /// The content of the first entry of this type among those not yet yielded. It stays among
    /// them. A well-known type is found by its name as well (CMETA-13).
    ///
    /// # Errors
    ///
    /// [`MetadataError::Truncated`] if an entry up to the one searched for is; those behind it
    /// are not looked at.
    pub fn find(&self, mime: impl Into<Mime>) -> Result<Option<Bytes>, MetadataError> {
        let content = find_content(&self.rest, &mime.into())?;
        Ok(content.map(|content| self.rest.slice_ref(content)))
    }
}

impl Iterator for CompositeMetadata {
    type Item = Result<Entry, MetadataError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match RawEntry::split(&self.rest) {
            Ok((raw, rest)) => {
                let entry = Entry {
                    mime: Mime::from_head(raw.head, &self.rest),
                    content: self.rest.slice_ref(raw.content),
                };
                let consumed = self.rest.len() - rest.len();
                self.rest.advance(consumed);
                Some(Ok(entry))
            }
            Err(error) => {
                self.rest.clear();
                Some(Err(error))
            }
        }
    }
}

impl FusedIterator for CompositeMetadata {}

impl fmt::Debug for CompositeMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompositeMetadata").field("rest_bytes", &self.rest.len()).finish()
    }
}

/// Writes composite metadata, entry by entry in the order of the calls (CMETA-06).
#[derive(Default)]
pub struct CompositeBuilder {
    buf: BytesMut,
}

impl CompositeBuilder {
    /// Without entries, which is valid metadata (CMETA-10).
    pub fn new() -> Self {
        Self::default()
    }

    /// With room for `bytes` bytes: 4 for each entry of a well-known type, plus the contents.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { buf: BytesMut::with_capacity(bytes) }
    }

    /// Appends an entry; `content` is copied.
    ///
    /// # Errors
    ///
    /// [`MetadataError::TooLong`] for content over 2^24 - 1 bytes (CMETA-14), and the errors
    /// of [`Mime::encode`]; the entries so far are then unchanged.
    pub fn push(
        &mut self,
        mime: impl Into<Mime>,
        content: impl AsRef<[u8]>,
    ) -> Result<&mut Self, MetadataError> {
        let content = content.as_ref();
        let len = content.len();
        if len > MAX_CONTENT_BYTES {
            let what = "content of a composite entry";
            return Err(MetadataError::TooLong { what, len, max: MAX_CONTENT_BYTES });
        }
        mime.into().encode(&mut self.buf)?;
        self.buf.reserve(LENGTH_BYTES + len);
        self.buf.put_uint(len as u64, LENGTH_BYTES);
        self.buf.put_slice(content);
        Ok(self)
    }

    /// The metadata.
    pub fn finish(self) -> Bytes {
        self.buf.freeze()
    }
}

impl fmt::Debug for CompositeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CompositeBuilder").field("bytes", &self.buf.len()).finish()
    }
}

const LENGTH_BYTES: usize = 3;
/// The longest content that a u24 can say.
const MAX_CONTENT_BYTES: usize = 0xFF_FFFF;

/// Composite metadata that go on with one entry more.
///
/// # Errors
///
/// As for [`CompositeBuilder::push`].
pub fn append_entry(
    before: &[u8],
    mime: impl Into<Mime>,
    content: impl AsRef<[u8]>,
) -> Result<Bytes, MetadataError> {
    let content = content.as_ref();
    // The head of nearly all is a byte.
    let mut all = CompositeBuilder::with_capacity(before.len() + 1 + LENGTH_BYTES + content.len());
    all.buf.put_slice(before);
    all.push(mime, content)?;
    Ok(all.finish())
}

/// The content of the first entry of this type.
pub(super) fn find_content<'a>(
    metadata: &'a [u8],
    mime: &Mime,
) -> Result<Option<&'a [u8]>, MetadataError> {
    let mut rest = metadata;
    while !rest.is_empty() {
        let (entry, behind) = RawEntry::split(rest)?;
        if entry.head.is(mime) {
            return Ok(Some(entry.content));
        }
        rest = behind;
    }
    Ok(None)
}

/// An entry as written: skipping one touches no reference count.
pub(super) struct RawEntry<'a> {
    pub(super) head: Head<'a>,
    pub(super) content: &'a [u8],
}

impl<'a> RawEntry<'a> {
    /// Splits an entry off the front of `buf`: `(entry, rest)`.
    pub(super) fn split(buf: &'a [u8]) -> Result<(Self, &'a [u8]), MetadataError> {
        let what = "MIME type of a composite entry";
        let (head, buf) = split_head(buf, what, LengthCoding::MinusOne)?;
        let (len, buf) = split(buf, LENGTH_BYTES, "content length of a composite entry")?;
        let len = len.iter().fold(0, |len, &byte| len << 8 | usize::from(byte));
        let (content, rest) = split(buf, len, "content of a composite entry")?;
        Ok((Self { head, content }, rest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::{
        WellKnownMime,
        testing::{hex, is_slice_of},
    };

    /// Written by hand from the text of the extension, and not by this encoder.
    const VECTOR: &str = "fe 000006 05 612f6f6e65 · 02 782f79 000002 0102 · \
                          fc 000006 80 0001 75 7077";

    fn custom() -> Mime {
        "x/y".parse().unwrap()
    }

    #[test]
    fn the_golden_vector_decodes_in_order_without_a_copy() {
        let metadata = hex(VECTOR);
        let entries: Vec<_> =
            CompositeMetadata::new(metadata.clone()).map(Result::unwrap).collect();
        let expected = [
            (WellKnownMime::Routing.into(), hex("05 612f6f6e65")),
            (custom(), hex("0102")),
            (WellKnownMime::Authentication.into(), hex("80 0001 75 7077")),
        ];
        assert_eq!(entries, expected.map(|(mime, content)| Entry { mime, content }));
        assert!(entries.iter().all(|entry| is_slice_of(&entry.content, &metadata)));
    }

    #[test]
    fn the_golden_vector_is_what_the_builder_writes() {
        let mut builder = CompositeBuilder::new();
        builder.push(WellKnownMime::Routing, b"\x05a/one").unwrap();
        builder.push(custom(), [1, 2]).unwrap();
        builder.push(WellKnownMime::Authentication, hex("80 0001 75 7077")).unwrap();
        assert_eq!(builder.finish(), hex(VECTOR));
    }

    #[test]
    fn nothing_and_empty_contents_are_valid() {
        assert_eq!(CompositeMetadata::new(Bytes::new()).next(), None);
        assert!(CompositeBuilder::new().finish().is_empty());
        let mut entries = CompositeMetadata::new(hex("85 000000"));
        let json = Entry { mime: WellKnownMime::Json.into(), content: Bytes::new() };
        assert_eq!(entries.next(), Some(Ok(json)));
        assert_eq!(entries.next(), None);
    }

    #[test]
    fn find_takes_the_first_of_a_type_and_skips_the_unknown() {
        // Reserved id, a name that is not ASCII, then two routing entries.
        let wire = hex("ab 000001 00 · 00 ff 000001 00 · fe 000002 0161 · fe 000002 0162");
        let mut entries = CompositeMetadata::new(wire.clone());
        assert_eq!(entries.find(WellKnownMime::Routing), Ok(Some(hex("0161"))));
        assert_eq!(entries.find(Mime::Reserved(0x2B)), Ok(Some(hex("00"))));
        assert_eq!(entries.find(WellKnownMime::Json), Ok(None));
        assert_eq!(entries.find(custom()), Ok(None));
        assert_eq!(entries.by_ref().take(3).filter(Result::is_ok).count(), 3);
        assert_eq!(entries.find(WellKnownMime::Routing), Ok(Some(hex("0162"))));
        assert_eq!(entries.find(Mime::Reserved(0x2B)), Ok(None));

        let mut forwarded = CompositeBuilder::new();
        forwarded.push(Mime::Reserved(0x2B), [0]).unwrap();
        assert_eq!(forwarded.finish(), wire[..5]);
    }

    #[test]
    fn find_takes_a_well_known_type_by_its_name() {
        let name = WellKnownMime::Routing.as_str();
        let mut wire = vec![name.len() as u8 - 1];
        wire.extend_from_slice(name.as_bytes());
        wire.extend_from_slice(&[0, 0, 2, 1, b'a']);
        let entries = CompositeMetadata::new(wire.into());
        assert_eq!(entries.find(WellKnownMime::Routing), Ok(Some(hex("0161"))));
    }

    #[test]
    fn a_cut_anywhere_is_an_error_and_the_last_item() {
        let whole = hex(VECTOR);
        for len in 0..whole.len() {
            let mut entries = CompositeMetadata::new(whole.slice(..len));
            let good = entries.by_ref().take_while(Result::is_ok).count();
            assert_eq!(good, usize::from(len >= 10) + usize::from(len >= 19));
            assert_eq!(entries.next(), None);

            let at_boundary = [0, 10, 19].contains(&len);
            let found = CompositeMetadata::new(whole.slice(..len)).find(WellKnownMime::Json);
            assert_eq!(found.is_ok(), at_boundary, "cut at {len}");
        }
    }

    #[test]
    fn lengths_past_the_end_say_how_far() {
        for (wire, needed, available) in [
            ("00", 1, 0),
            ("7f 78", 128, 1),
            ("fe", 3, 0),
            ("fe 0000", 3, 2),
            ("fe 000010 0161", 16, 2),
            ("fe ffffff", 0xFF_FFFF, 0),
        ] {
            let mut entries = CompositeMetadata::new(hex(wire));
            let Some(Err(MetadataError::Truncated { needed: n, available: a, .. })) =
                entries.next()
            else {
                panic!("{wire} is not truncated");
            };
            assert_eq!((n, a), (needed, available), "{wire}");
            assert_eq!(entries.next(), None);
        }
    }

    #[test]
    fn four_million_empty_entries_take_linear_time() {
        // Nothing is timed: one copy of the rest per entry would take hours.
        let metadata = Bytes::from(hex("ab 000000").repeat(4_000_000));
        let entries = CompositeMetadata::new(metadata);
        assert_eq!(entries.find(WellKnownMime::Routing), Ok(None));
        assert_eq!(entries.filter(Result::is_ok).count(), 4_000_000);
    }

    #[test]
    fn composite_in_composite_is_opaque() {
        let mut nested = Bytes::new();
        for _ in 0..1_000 {
            let mut builder = CompositeBuilder::new();
            builder.push(WellKnownMime::CompositeMetadata, &nested).unwrap();
            nested = builder.finish();
        }
        assert_eq!(CompositeMetadata::new(nested.clone()).find(WellKnownMime::Routing), Ok(None));
        assert_eq!(CompositeMetadata::new(nested).count(), 1);
    }

    #[test]
    fn content_has_up_to_a_u24_of_bytes() {
        let mut content = vec![0; MAX_CONTENT_BYTES];
        let mut builder = CompositeBuilder::with_capacity(MAX_CONTENT_BYTES + 4);
        builder.push(WellKnownMime::OctetStream, &content).unwrap();
        let before = builder.buf.len();
        content.push(0);
        let refused = builder.push(WellKnownMime::OctetStream, &content).map(|_| ());
        assert!(matches!(refused, Err(MetadataError::TooLong { len: 0x100_0000, .. })));
        assert_eq!(builder.buf.len(), before);

        let found = CompositeMetadata::new(builder.finish()).find(WellKnownMime::OctetStream);
        assert_eq!(found.unwrap().map(|content| content.len()), Some(MAX_CONTENT_BYTES));
    }

    #[test]
    fn debug_output_hides_contents() {
        let mut entries = CompositeMetadata::new(hex("fc 000004 81 746f6b"));
        assert_eq!(format!("{entries:?}"), "CompositeMetadata { rest_bytes: 8 }");
        let entry = entries.next().unwrap().unwrap();
        let shown = "Entry { mime: WellKnown(Authentication), content_bytes: 4 }";
        assert_eq!(format!("{entry:?}"), shown);
    }
}
