//! From `-r` and `-m` to metadata, in the type the connection declares.

use bytes::Bytes;
use rsock::metadata::{CompositeBuilder, Mime, WellKnownMime, encode_tags};

use crate::{args::MetadataArgs, exit::Failure, input};

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
            None => Err(Failure::Usage(format!("{name} is no MIME id: they end at 0x7f"))),
        };
    }
    let alias = SHORT_NAMES.iter().find(|(short, _)| *short == name).map(|(_, known)| *known);
    let known = alias.or_else(|| WellKnownMime::ALL.iter().copied().find(|known| is(*known, name)));
    known.map(Mime::WellKnown).ok_or_else(|| {
        Failure::Usage(format!(
            "{name:?} is no MIME type: give its full name, as in application/json, a short one, as \
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

/// The metadata of a request on a connection whose type of metadata is `connection_mime`.
pub(crate) fn build(args: &MetadataArgs, connection_mime: &str) -> Result<Option<Bytes>, Failure> {
    if args.routes.is_empty() && args.metadata.is_empty() {
        return Ok(None);
    }
    let tags =
        encode_tags(&args.routes).map_err(|error| Failure::Usage(format!("--route: {error}")))?;
    let known = WellKnownMime::from_name(connection_mime);
    match (known, args.routes.is_empty(), args.metadata.as_slice()) {
        (Some(WellKnownMime::CompositeMetadata), ..) => composite(args, &tags).map(Some),
        (Some(WellKnownMime::Routing), false, []) => Ok(Some(tags)),
        (_, true, [value]) => plain(value, connection_mime).map(Some),
        (Some(WellKnownMime::Routing), ..) => Err(Failure::Usage(
            "-r and -m do not go together where the metadata is routing alone: leave out \
             --metadata-mime, and it is composite"
                .into(),
        )),
        (_, false, _) => Err(Failure::Usage(format!(
            "metadata of the type {connection_mime} has no room for a route: leave out \
             --metadata-mime, and it is composite"
        ))),
        (_, true, values) => Err(Failure::Usage(format!(
            "{} times -m, where metadata of the type {connection_mime} is one value: leave out \
             --metadata-mime, and it is composite",
            values.len()
        ))),
    }
}

fn composite(args: &MetadataArgs, tags: &[u8]) -> Result<Bytes, Failure> {
    let mut builder = CompositeBuilder::new();
    let too_much = |error| Failure::Usage(format!("-m: {error}"));
    if !args.routes.is_empty() {
        builder.push(WellKnownMime::Routing, tags).map_err(too_much)?;
    }
    for entry in &args.metadata {
        let (name, value) = entry.split_once('=').ok_or_else(|| {
            Failure::Usage(format!("-m {entry:?}: expected MIME=VALUE, as in json='{{\"a\":1}}'"))
        })?;
        builder.push(mime(name)?, input::value(value)?).map_err(too_much)?;
    }
    Ok(builder.finish())
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
        let args = MetadataArgs { routes: owned(routes), metadata: owned(metadata) };
        build(&args, mime).map_err(|failure| failure.to_string())
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
