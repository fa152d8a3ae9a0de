//! Tracing metadata: which span of which trace a request belongs to.
//!
//! Two forms are deployed. The protocol's own extension is Zipkin's, in binary:
//!
//! ```text
//! | flags 1 | trace id 8 or 16 | span id 8 | parent id 8, if there is one |
//! ```
//!
//! The other is the text of W3C Trace Context, in an entry whose type is named `traceparent` like
//! the header it comes from: that is how the Java implementation's instrumentation propagates it.
//!
//! Tracing never fails a request: what cannot be read is as good as absent (TRACE-07).

use std::{
    fmt,
    num::{NonZeroU64, NonZeroU128},
    str::FromStr,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::metadata::{MetadataError, Mime, mime::TRACEPARENT};

/// The decision about recording a trace. Of several flags on the wire the strongest counts
/// (TRACE-05).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sampling {
    /// Nothing: whoever receives it decides.
    #[default]
    Undecided,
    /// It is not recorded.
    NotSampled,
    /// It is recorded.
    Sampled,
    /// It is recorded whatever a sampler says.
    Debug,
}

impl Sampling {
    /// Whether spans are recorded, where that is decided.
    pub const fn is_sampled(self) -> Option<bool> {
        match self {
            Self::Undecided => None,
            Self::NotSampled => Some(false),
            Self::Sampled | Self::Debug => Some(true),
        }
    }
}

impl fmt::Display for Sampling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Undecided => "undecided",
            Self::NotSampled => "not sampled",
            Self::Sampled => "sampled",
            Self::Debug => "debug",
        })
    }
}

/// The content of a [`Tracing`](super::WellKnownMime::Tracing) entry, in Zipkin's terms.
///
/// Allowed in the four request types and in PAYLOAD (TRACE-06).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Zipkin {
    /// The decision about recording.
    pub sampling: Sampling,
    /// The span; without it there is only the decision (TRACE-02).
    pub span: Option<ZipkinSpan>,
}

/// Which span of which trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ZipkinSpan {
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: u64,
    /// The span it was started from, unless it is the first (TRACE-04).
    pub parent_id: Option<u64>,
}

/// A trace's id, in either of its sizes (TRACE-03). `Display` writes 16 or 32 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TraceId {
    /// 64 bits.
    Short(u64),
    /// 128 bits.
    Long(u128),
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short(id) => write!(f, "{id:016x}"),
            Self::Long(id) => write!(f, "{id:032x}"),
        }
    }
}

const HAS_IDS: u8 = 0x80;
const DEBUG: u8 = 0x40;
const SAMPLED: u8 = 0x20;
const NOT_SAMPLED: u8 = 0x10;
const LONG_TRACE_ID: u8 = 0x08;
const HAS_PARENT: u8 = 0x04;

impl Zipkin {
    /// Reads the content of an entry. `None` if it is shorter than its flags require: that is to
    /// be ignored, as the request goes on without (TRACE-07).
    ///
    /// Bytes behind the ids are ignored, and so are undefined flags (TRACE-09) and flags about
    /// ids where there are none (TRACE-08).
    pub fn decode(mut content: &[u8]) -> Option<Self> {
        let flags = content.try_get_u8().ok()?;
        let has = |flag| flags & flag != 0;
        let sampling = if has(DEBUG) {
            Sampling::Debug
        } else if has(SAMPLED) {
            Sampling::Sampled
        } else if has(NOT_SAMPLED) {
            Sampling::NotSampled
        } else {
            Sampling::Undecided
        };
        let span = if has(HAS_IDS) {
            let trace_id = if has(LONG_TRACE_ID) {
                TraceId::Long(content.try_get_u128().ok()?)
            } else {
                TraceId::Short(content.try_get_u64().ok()?)
            };
            let span_id = content.try_get_u64().ok()?;
            let parent_id = if has(HAS_PARENT) { Some(content.try_get_u64().ok()?) } else { None };
            Some(ZipkinSpan { trace_id, span_id, parent_id })
        } else {
            None
        };
        Some(Self { sampling, span })
    }

    /// The content of an entry: 1, 17, 25 or 33 bytes (TRACE-01).
    pub fn encode(&self) -> Bytes {
        let mut flags = match self.sampling {
            Sampling::Undecided => 0,
            Sampling::NotSampled => NOT_SAMPLED,
            Sampling::Sampled => SAMPLED,
            Sampling::Debug => DEBUG,
        };
        let mut buf = BytesMut::with_capacity(MAX_ZIPKIN_BYTES);
        let Some(ZipkinSpan { trace_id, span_id, parent_id }) = self.span else {
            buf.put_u8(flags);
            return buf.freeze();
        };
        flags |= HAS_IDS;
        if matches!(trace_id, TraceId::Long(_)) {
            flags |= LONG_TRACE_ID;
        }
        if parent_id.is_some() {
            flags |= HAS_PARENT;
        }
        buf.put_u8(flags);
        match trace_id {
            TraceId::Short(id) => buf.put_u64(id),
            TraceId::Long(id) => buf.put_u128(id),
        }
        buf.put_u64(span_id);
        if let Some(id) = parent_id {
            buf.put_u64(id);
        }
        buf.freeze()
    }
}

const MAX_ZIPKIN_BYTES: usize = 33;

/// As on one line of a log: `trace=… span=… parent=… sampled`.
impl fmt::Display for Zipkin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ZipkinSpan { trace_id, span_id, parent_id }) = self.span {
            write!(f, "trace={trace_id} span={span_id:016x} ")?;
            if let Some(id) = parent_id {
                write!(f, "parent={id:016x} ")?;
            }
        }
        self.sampling.fmt(f)
    }
}

/// The `traceparent` of W3C Trace Context, as the content of an entry of the type
/// [`TraceParent::mime`].
///
/// Its text is `00-<trace id, 32 digits>-<span id, 16 digits>-<flags, 2 digits>` in lowercase
/// hexadecimal, with neither id zero. Text of a later version is read as far as it agrees; what
/// is written is of version 00, with the flags that version 00 knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// The trace.
    pub trace_id: NonZeroU128,
    /// The span the request was made in.
    pub span_id: NonZeroU64,
    /// Bit 0: sampled; bit 1: the trace id is random.
    pub flags: u8,
}

impl TraceParent {
    /// The type of its entries: none of the table, but the header's name.
    pub fn mime() -> Mime {
        Mime::from_setup(Bytes::from_static(TRACEPARENT.as_bytes()))
    }

    /// Whether the caller may have recorded the trace.
    pub const fn is_sampled(&self) -> bool {
        self.flags & 0x01 != 0
    }

    /// Reads the content of an entry. `None` if it is not of the form: that is to be ignored, as
    /// the request goes on without.
    pub fn decode(content: &[u8]) -> Option<Self> {
        str::from_utf8(content).ok()?.parse().ok()
    }
}

/// Flags that are defined: sampled, and random trace id.
const KNOWN_FLAGS: u8 = 0x03;
/// The length of version 00, and the least of any later.
const TRACEPARENT_BYTES: usize = 55;
const TRACEPARENT_FORM: &str = "00-<32 hex digits>-<16 hex digits>-<2 hex digits> in lowercase, \
                                neither id zero";

impl FromStr for TraceParent {
    type Err = MetadataError;

    fn from_str(text: &str) -> Result<Self, MetadataError> {
        let malformed =
            MetadataError::Malformed { what: "traceparent", expected: TRACEPARENT_FORM };
        parse_traceparent(text.as_bytes()).ok_or(malformed)
    }
}

fn parse_traceparent(text: &[u8]) -> Option<TraceParent> {
    let (known, rest) = text.split_at_checked(TRACEPARENT_BYTES)?;
    let [version @ .., b'-'] = &known[..3] else { return None };
    let [trace_id @ .., b'-'] = &known[3..36] else { return None };
    let [span_id @ .., b'-'] = &known[36..53] else { return None };
    let version = hex_digits(version)?;
    // Version ff stands for none; later ones may add fields, and only behind a dash.
    let is_whole = match version {
        0 => rest.is_empty(),
        0xFF => false,
        _ => matches!(rest, [] | [b'-', ..]),
    };
    if !is_whole {
        return None;
    }
    Some(TraceParent {
        trace_id: NonZeroU128::new(hex_digits(trace_id)?)?,
        // 16 digits fit.
        span_id: NonZeroU64::new(hex_digits(span_id)? as u64)?,
        // Two digits fit.
        flags: hex_digits(&known[53..])? as u8,
    })
}

/// The value of at most 32 digits, all lowercase.
fn hex_digits(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

/// The text on the wire.
impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { trace_id, span_id, flags } = self;
        write!(f, "00-{trace_id:032x}-{span_id:016x}-{:02x}", flags & KNOWN_FLAGS)
    }
}

/// The span a request was made in, whichever way it was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TraceContext {
    /// In the protocol's own extension.
    Zipkin(Zipkin),
    /// In the text of W3C Trace Context.
    TraceParent(TraceParent),
}

impl TraceContext {
    /// The trace's id, a short one with zeros before it; `None` if there is only a decision.
    pub fn trace_id(&self) -> Option<u128> {
        match self {
            Self::Zipkin(zipkin) => zipkin.span.map(|span| match span.trace_id {
                TraceId::Short(id) => id.into(),
                TraceId::Long(id) => id,
            }),
            Self::TraceParent(parent) => Some(parent.trace_id.get()),
        }
    }

    /// The id of the span the request was made in; `None` if there is only a decision.
    pub fn span_id(&self) -> Option<u64> {
        match self {
            Self::Zipkin(zipkin) => zipkin.span.map(|span| span.span_id),
            Self::TraceParent(parent) => Some(parent.span_id.get()),
        }
    }

    /// Whether the trace is recorded; `None` if that is not decided.
    pub fn is_sampled(&self) -> Option<bool> {
        match self {
            Self::Zipkin(zipkin) => zipkin.sampling.is_sampled(),
            Self::TraceParent(parent) => Some(parent.is_sampled()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::testing::hex;

    fn span(trace_id: TraceId, parent_id: Option<u64>) -> Option<ZipkinSpan> {
        Some(ZipkinSpan { trace_id, span_id: 2, parent_id })
    }

    /// TRACE-01, -03, -04; the one with a parent is the vector of the protocol reference.
    #[test]
    fn the_golden_vectors_hold_both_ways() {
        let (one, two, three) = ("0000000000000001", "0000000000000002", "0000000000000003");
        let (sampled, debug) = (Sampling::Sampled, Sampling::Debug);
        let (short, long) = (TraceId::Short(1), TraceId::Long(3 << 64 | 1));
        for (wire, sampling, span, len) in [
            ("20".to_owned(), sampled, None, 1),
            (format!("80 {one} {two}"), Sampling::Undecided, span(short, None), 17),
            (format!("a4 {one} {two} {three}"), sampled, span(short, Some(3)), 25),
            (format!("98 {three}{one} {two}"), Sampling::NotSampled, span(long, None), 25),
            (format!("cc {three}{one} {two} {three}"), debug, span(long, Some(3)), 33),
        ] {
            let zipkin = Zipkin { sampling, span };
            assert_eq!(hex(&wire).len(), len);
            assert_eq!(Zipkin::decode(&hex(&wire)), Some(zipkin), "{wire}");
            assert_eq!(zipkin.encode(), hex(&wire));
        }
    }

    /// TRACE-02
    #[test]
    fn a_decision_needs_no_ids() {
        for (wire, sampling, decided) in [
            ("00", Sampling::Undecided, None),
            ("10", Sampling::NotSampled, Some(false)),
            ("20", Sampling::Sampled, Some(true)),
            ("40", Sampling::Debug, Some(true)),
        ] {
            let zipkin = Zipkin { sampling, span: None };
            assert_eq!(Zipkin::decode(&hex(wire)), Some(zipkin));
            assert_eq!(zipkin.encode(), hex(wire));
            assert_eq!(sampling.is_sampled(), decided);
        }
    }

    /// TRACE-05
    #[test]
    fn of_several_decisions_the_strongest_counts() {
        for (wire, sampling) in [
            ("70", Sampling::Debug),
            ("60", Sampling::Debug),
            ("50", Sampling::Debug),
            ("30", Sampling::Sampled),
        ] {
            assert_eq!(Zipkin::decode(&hex(wire)).map(|zipkin| zipkin.sampling), Some(sampling));
        }
    }

    /// TRACE-07
    #[test]
    fn what_is_too_short_is_ignored_and_so_is_a_surplus() {
        let whole = hex("cc 00000000000000030000000000000001 0000000000000002 0000000000000003");
        for len in 0..whole.len() {
            assert_eq!(Zipkin::decode(&whole[..len]), None, "{len} bytes");
        }
        assert_eq!(Zipkin::decode(&hex("a0 00")), None);
        let surplus = [&whole[..], &[0xFF; 9]].concat();
        assert!(Zipkin::decode(&whole).is_some());
        assert_eq!(Zipkin::decode(&surplus), Zipkin::decode(&whole));
        assert_eq!(Zipkin::decode(&hex("10 ff")), Zipkin::decode(&hex("10")));
    }

    /// TRACE-08
    #[test]
    fn flags_about_ids_mean_nothing_without_ids() {
        let ids = hex("0c 00000000000000030000000000000001 0000000000000002 0000000000000003");
        for wire in [hex("0c"), hex("08"), hex("04"), ids] {
            assert_eq!(Zipkin::decode(&wire), Some(Zipkin::default()));
        }
        assert_eq!(Zipkin::default().encode(), hex("00"));
    }

    /// TRACE-09
    #[test]
    fn undefined_flags_are_not_looked_at_and_not_sent() {
        let (wire, clean) =
            ("83 0000000000000001 0000000000000002", "80 00000000000000010000000000000002");
        let zipkin = Zipkin::decode(&hex(wire)).unwrap();
        assert_eq!(
            zipkin,
            Zipkin { sampling: Sampling::Undecided, span: span(TraceId::Short(1), None) }
        );
        assert_eq!(zipkin.encode(), hex(clean));
    }

    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    /// The example of W3C Trace Context, section 3.2.4.
    #[test]
    fn a_traceparent_is_read_and_written() {
        let parent: TraceParent = EXAMPLE.parse().unwrap();
        assert_eq!(parent.trace_id.get(), 0x0AF7_6519_16CD_43DD_8448_EB21_1C80_319C);
        assert_eq!(parent.span_id.get(), 0xB7AD_6B71_6920_3331);
        assert!(parent.is_sampled());
        assert_eq!(parent.to_string(), EXAMPLE);
        assert_eq!(TraceParent::decode(EXAMPLE.as_bytes()), Some(parent));
        let unsampled: TraceParent = EXAMPLE.replace("-01", "-02").parse().unwrap();
        assert!(!unsampled.is_sampled());
        assert_eq!(unsampled.to_string(), EXAMPLE.replace("-01", "-02"));
    }

    #[test]
    fn later_versions_are_read_as_far_as_they_agree() {
        let parent: TraceParent = EXAMPLE.parse().unwrap();
        let later = EXAMPLE.replacen("00", "01", 1);
        assert_eq!(later.parse(), Ok(parent));
        assert_eq!(format!("{later}-more").parse(), Ok(parent));
        // Flags of later versions are read, and not passed on.
        let flags: TraceParent = EXAMPLE.replace("-01", "-fd").parse().unwrap();
        assert_eq!((flags.flags, flags.to_string().as_str()), (0xFD, EXAMPLE));
    }

    #[test]
    fn what_is_no_traceparent_is_refused_and_ignored() {
        let zero_trace = "00-00000000000000000000000000000000-b7ad6b7169203331-01".to_owned();
        let zero_span = "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01".to_owned();
        for text in [
            String::new(),
            EXAMPLE[..54].to_owned(),
            format!("{EXAMPLE}-"),
            format!("{EXAMPLE} "),
            EXAMPLE.to_uppercase(),
            EXAMPLE.replacen("00", "ff", 1),
            EXAMPLE.replacen("00", "01", 1) + "more",
            EXAMPLE.replace('-', "_"),
            EXAMPLE.replace("0af7", "+af7"),
            EXAMPLE.replace("0af7", "züg"),
            zero_trace,
            zero_span,
        ] {
            let error = text.parse::<TraceParent>().unwrap_err();
            assert!(error.to_string().starts_with("traceparent is malformed: expected 00-<32"));
            assert_eq!(TraceParent::decode(text.as_bytes()), None, "{text}");
        }
        assert_eq!(TraceParent::decode(&[0xFF; 55]), None);
    }

    #[test]
    fn the_type_of_a_traceparent_goes_by_its_name() {
        let mut wire = BytesMut::new();
        TraceParent::mime().encode(&mut wire).unwrap();
        assert_eq!(wire, b"\x0atraceparent".as_slice());
        assert_eq!("traceparent".parse(), Ok(TraceParent::mime()));
    }

    #[test]
    fn both_forms_say_the_same() {
        let parent: TraceParent = EXAMPLE.parse().unwrap();
        let trace_id = TraceId::Long(parent.trace_id.get());
        let span = ZipkinSpan { trace_id, span_id: parent.span_id.get(), parent_id: None };
        let zipkin = Zipkin { sampling: Sampling::Sampled, span: Some(span) };
        let said =
            |context: TraceContext| (context.trace_id(), context.span_id(), context.is_sampled());
        assert_eq!(said(TraceContext::Zipkin(zipkin)), said(TraceContext::TraceParent(parent)));
        let text = "trace=0af7651916cd43dd8448eb211c80319c span=b7ad6b7169203331 sampled";
        assert_eq!(zipkin.to_string(), text);
        let short = TraceId::Short(1);
        let zipkin = Zipkin {
            sampling: Sampling::NotSampled,
            span: Some(ZipkinSpan { trace_id: short, span_id: 2, parent_id: Some(3) }),
        };
        assert_eq!(TraceContext::Zipkin(zipkin).trace_id(), Some(1));
        let text =
            "trace=0000000000000001 span=0000000000000002 parent=0000000000000003 not sampled";
        assert_eq!(zipkin.to_string(), text);
        assert_eq!(TraceContext::Zipkin(Zipkin::default()).trace_id(), None);
    }
}
