//! From `-r` and `-m` to metadata, in the type the connection declares.

use bytes::Bytes;
use rsock::metadata::{
    Authentication, CompositeBuilder, Mime, TraceId, TraceParent, WellKnownMime, Zipkin,
    ZipkinSpan, encode_accept_mimes, encode_stream_mime, encode_tags,
};

use crate::{
    args::{MetadataArgs, Trace},
    exit::Failure,
    input,
};

/// Names for those whose own are long, or that go by another.
const SHORT_NAMES: &[(&str, WellKnownMime)] = &[
    ("auth", WellKnownMime::Authentication),
    ("binary", WellKnownMime::OctetStream),
    ("composite", WellKnownMime::CompositeMetadata),
    ("octets", WellKnownMime::OctetStream),
    ("protobuf", WellKnownMime::Protobuf),
    ("route", WellKnownMime::Routing),
    ("text", WellKnownMime::TextPlain),
    ("tracing", WellKnownMime::Tracing),
    ("zipkin", WellKnownMime::Tracing),
    // As the enumeration of rsocket-java spells them, and rsc with it.
    ("MESSAGE_RSOCKET_ACCEPT_MIMETYPES", WellKnownMime::AcceptMimeTypes),
    ("MESSAGE_RSOCKET_AUTHENTICATION", WellKnownMime::Authentication),
    ("MESSAGE_RSOCKET_COMPOSITE_METADATA", WellKnownMime::CompositeMetadata),
    ("MESSAGE_RSOCKET_MIMETYPE", WellKnownMime::MimeType),
    ("MESSAGE_RSOCKET_ROUTING", WellKnownMime::Routing),
    ("MESSAGE_RSOCKET_TRACING_ZIPKIN", WellKnownMime::Tracing),
];

/// A type by its name, its short name, or its id.
pub(crate) fn mime(name: &str) -> Result<Mime, Failure> {
    if name.contains('/') {
        return name.parse().map_err(|error| Failure::Usage(format!("{name:?}: {error}")));
    }
    if let Some(id) = id(name) {
        let known = WellKnownMime::from_id(id).map(Mime::WellKnown);
        return match known {
            Some(known) => Ok(known),
            None if id < 0x80 => Ok(Mime::Reserved(id)),
            None => Err(Failure::Usage(format!("{name} is not a valid MIME id: they end at 0x7f"))),
        };
    }
    let alias = SHORT_NAMES.iter().find(|(short, _)| *short == name).map(|(_, known)| *known);
    let known = alias.or_else(|| WellKnownMime::ALL.iter().copied().find(|known| is(*known, name)));
    known.map(Mime::WellKnown).ok_or_else(|| {
        Failure::Usage(format!(
            "{name:?} is not a valid MIME type: give its full name, as in application/json, a short one, as \
             json, text, cbor or binary, or an id, as 0x05"
        ))
    })
}

fn id(name: &str) -> Option<u8> {
    match name.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16).ok(),
        None => name.parse().ok(),
    }
}

/// `cbor` and `APPLICATION_CBOR` are `application/cbor`.
fn is(known: WellKnownMime, name: &str) -> bool {
    let full = known.as_str();
    let Some((_, sub)) = full.split_once('/') else { return false };
    let sub = sub.strip_prefix("x.rsocket.").unwrap_or(sub);
    let enumerated = full.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_ascii_uppercase();
    sub.strip_suffix(".v0").unwrap_or(sub) == name || enumerated == name
}

/// The name of a type, for SETUP.
pub(crate) fn mime_name(name: &str) -> Result<String, Failure> {
    // SETUP has room for more than an entry of composite metadata has.
    if name.contains('/') {
        return Ok(name.to_owned());
    }
    let mime = mime(name)?;
    let text = mime.as_str().map(str::to_owned);
    text.ok_or_else(|| Failure::Usage(format!("{mime} stands for no type yet")))
}

/// The metadata of a request on a connection whose type of metadata is `connection_mime`: the route,
/// what the extensions have, and then what `-m` says.
pub(crate) fn of_request(
    args: &MetadataArgs,
    credentials: Option<Authentication>,
    trace: Option<Zipkin>,
    connection_mime: &str,
) -> Result<Option<Bytes>, Failure> {
    let wrong = |option: &'static str| move |error| Failure::Usage(format!("{option}: {error}"));
    let mut entries = Vec::new();
    if !args.routes.is_empty() {
        let tags = encode_tags(&args.routes).map_err(wrong("--route"))?;
        entries.push((WellKnownMime::Routing.into(), tags));
    }
    if let Some(credentials) = credentials {
        let content = credentials.encode().map_err(wrong("--auth-simple"))?;
        entries.push((WellKnownMime::Authentication.into(), content));
    }
    if let Some(name) = &args.request_data_mime {
        let content = encode_stream_mime(&mime(name)?).map_err(wrong("--request-data-mime"))?;
        entries.push((WellKnownMime::MimeType.into(), content));
    }
    if !args.accept.is_empty() {
        let mimes: Vec<_> = args.accept.iter().map(|name| mime(name)).collect::<Result<_, _>>()?;
        let content = encode_accept_mimes(&mimes).map_err(wrong("--accept"))?;
        entries.push((WellKnownMime::AcceptMimeTypes.into(), content));
    }
    if let Some(trace) = trace {
        entries.push((WellKnownMime::Tracing.into(), trace.encode()));
    }
    if let Some(parent) = &args.traceparent {
        entries.push((TraceParent::mime(), parent.to_string().into()));
    }
    build(entries, "-m", &args.metadata, connection_mime)
}

/// The metadata of SETUP, without credentials.
pub(crate) fn of_setup(values: &[String], connection_mime: &str) -> Result<Option<Bytes>, Failure> {
    build(Vec::new(), "--setup-metadata", values, connection_mime)
}

/// The first span of a new trace.
pub(crate) fn random_trace(decision: Trace) -> Result<Zipkin, Failure> {
    let mut ids = [0; 24];
    getrandom::fill(&mut ids)
        .map_err(|error| Failure::Local(format!("no random ids for --trace: {error}")))?;
    let [mut trace_id, mut span_id] = [[0; 16]; 2];
    trace_id.copy_from_slice(&ids[..16]);
    span_id[8..].copy_from_slice(&ids[16..]);
    let span = ZipkinSpan {
        // An id of 0 would stand for none.
        trace_id: TraceId::Long(u128::from_be_bytes(trace_id).max(1)),
        // Its upper half is 0.
        span_id: (u128::from_be_bytes(span_id) as u64).max(1),
        parent_id: None,
    };
    Ok(Zipkin { sampling: decision.into(), span: Some(span) })
}

/// Metadata of `entries` and of the values of `option`.
fn build(
    entries: Vec<(Mime, Bytes)>,
    option: &str,
    values: &[String],
    connection_mime: &str,
) -> Result<Option<Bytes>, Failure> {
    let of_connection = WellKnownMime::from_name(connection_mime).map(Mime::from);
    if of_connection == Some(WellKnownMime::CompositeMetadata.into()) {
        return composite(entries, option, values);
    }
    let names_the_type =
        |mime: &Mime| mime.as_str().is_some_and(|name| name.eq_ignore_ascii_case(connection_mime));
    match (entries.as_slice(), values) {
        ([], []) => Ok(None),
        ([], [value]) => plain(value, connection_mime).map(Some),
        // Metadata of an extension's own type are its one entry.
        ([(mime, content)], []) if names_the_type(mime) => Ok(Some(content.clone())),
        ([], values) => Err(Failure::Usage(format!(
            "{} times {option}, where metadata of the type {connection_mime} is one value: leave out \
             --metadata-mime, and it is composite",
            values.len()
        ))),
        ([(mime, _)], _) if names_the_type(mime) => Err(Failure::Usage(format!(
            "{} and {option} do not go together where the metadata is one of them alone: leave out \
             --metadata-mime, and it is composite",
            what(mime)
        ))),
        (entries, _) => {
            let mime = entries.iter().map(|(mime, _)| mime).find(|mime| !names_the_type(mime));
            Err(Failure::Usage(format!(
                "metadata of the type {connection_mime} has no room for {}: leave out \
                 --metadata-mime, and it is composite",
                mime.map_or("this", what)
            )))
        }
    }
}

/// An entry as the help calls it.
fn what(mime: &Mime) -> &'static str {
    match mime {
        Mime::WellKnown(WellKnownMime::Routing) => "a route",
        Mime::WellKnown(WellKnownMime::Authentication) => "credentials",
        Mime::WellKnown(WellKnownMime::MimeType) => "the type of the data",
        Mime::WellKnown(WellKnownMime::AcceptMimeTypes) => "accepted types",
        _ => "a trace",
    }
}

fn composite(
    entries: Vec<(Mime, Bytes)>,
    option: &str,
    values: &[String],
) -> Result<Option<Bytes>, Failure> {
    if entries.is_empty() && values.is_empty() {
        return Ok(None);
    }
    let mut builder = CompositeBuilder::new();
    let too_much = |error| Failure::Usage(format!("{option}: {error}"));
    for (mime, content) in entries {
        builder.push(mime, content).map_err(too_much)?;
    }
    for entry in values {
        let (name, value) = entry.split_once('=').ok_or_else(|| {
            Failure::Usage(format!(
                "{option} {entry:?}: expected MIME=VALUE, as in json='{{\"a\":1}}'"
            ))
        })?;
        builder.push(mime(name)?, input::value(value)?).map_err(too_much)?;
    }
    Ok(Some(builder.finish()))
}

/// The whole argument is the value, unless it names the type again.
fn plain(value: &str, connection_mime: &str) -> Result<Bytes, Failure> {
    let named = value.split_once('=').filter(|(name, _)| {
        mime_name(name).is_ok_and(|name| name.eq_ignore_ascii_case(connection_mime))
    });
    input::value(named.map_or(value, |(_, value)| value))
}

#[cfg(test)]
mod tests {
    use rsock::metadata::{CompositeMetadata, mime::COMPOSITE_METADATA, mime::ROUTING};

    use super::*;

    fn built(routes: &[&str], metadata: &[&str], mime: &str) -> Result<Option<Bytes>, String> {
        let owned = |all: &[&str]| all.iter().map(ToString::to_string).collect();
        let (routes, metadata) = (owned(routes), owned(metadata));
        let args = MetadataArgs { routes, metadata, ..MetadataArgs::default() };
        of_request(&args, None, None, mime).map_err(|failure| failure.to_string())
    }

    #[test]
    fn types_go_by_name_short_name_id_and_enumeration() {
        for name in ["application/cbor", "cbor", "0x01", "1", "APPLICATION_CBOR"] {
            assert_eq!(mime(name).unwrap(), WellKnownMime::Cbor.into(), "{name}");
        }
        for (name, known) in [
            ("text", WellKnownMime::TextPlain),
            ("routing", WellKnownMime::Routing),
            ("MESSAGE_RSOCKET_ROUTING", WellKnownMime::Routing),
            ("auth", WellKnownMime::Authentication),
            ("xml", WellKnownMime::Xml),
        ] {
            assert_eq!(mime(name).unwrap(), known.into());
        }
        assert_eq!(mime("0x30").unwrap(), Mime::Reserved(0x30));
        assert_eq!(mime("a/b").unwrap().as_str(), Some("a/b"));
        assert!(mime("jsn").is_err() && mime("0x80").is_err() && mime("").is_err());
        assert!(mime_name("0x30").is_err());
    }

    #[test]
    fn composite_metadata_has_the_route_first() {
        let metadata = built(&["a", "b"], &["text=x=y"], COMPOSITE_METADATA).unwrap().unwrap();
        let entries: Vec<_> = CompositeMetadata::new(metadata).map(Result::unwrap).collect();
        assert_eq!(entries[0].mime, WellKnownMime::Routing.into());
        assert_eq!(entries[0].content, b"\x01a\x01b".as_slice());
        assert_eq!(entries[1].mime, WellKnownMime::TextPlain.into());
        assert_eq!(entries[1].content, "x=y");
        assert_eq!(built(&[], &[], COMPOSITE_METADATA), Ok(None));
    }

    #[test]
    fn routing_metadata_is_the_tags_alone() {
        assert_eq!(built(&["a"], &[], ROUTING), Ok(Some(Bytes::from_static(b"\x01a"))));
        assert!(built(&["a"], &["text=b"], ROUTING).unwrap_err().contains("do not go together"));
    }

    #[test]
    fn plain_metadata_is_one_value() {
        let json = "application/json";
        assert_eq!(built(&[], &["{\"a\":\"b=c\"}"], json), Ok(Some("{\"a\":\"b=c\"}".into())));
        assert_eq!(built(&[], &["json=1"], json), Ok(Some("1".into())));
        assert!(built(&[], &["1", "2"], json).unwrap_err().contains("is one value"));
        assert!(built(&["a"], &[], json).unwrap_err().contains("no room for a route"));
    }

    #[test]
    fn a_route_is_never_cut() {
        let longest = "x".repeat(255);
        assert!(built(&[&longest], &[], COMPOSITE_METADATA).is_ok());
        let error = built(&[&"x".repeat(256)], &[], COMPOSITE_METADATA).unwrap_err();
        assert_eq!(error, "--route: routing tag is 256 bytes long: expected at most 255");
    }

    #[test]
    fn an_entry_without_a_type_is_refused() {
        assert!(built(&[], &["x"], COMPOSITE_METADATA).unwrap_err().contains("MIME=VALUE"));
    }
}
