//! Metadata in words, and never a password or a token.

use bytes::Bytes;
use rsock::metadata::{
    AcceptMimes, Authentication, Entry, Extensions, MetadataError, Mime, RoutingTags, TraceContext,
    WellKnownMime, Zipkin, decode_stream_mime, first_route,
};

use rsock_cli::Count;

use crate::render::text_or_hex;

/// Types of a list that are shown.
const MAX_SHOWN: usize = 8;

/// The contents of a frame's metadata, each part with a space before it; empty if it says nothing
/// that can be read, as the first fragment of many may.
pub(crate) fn summary(metadata: &Bytes, connection_mime: &str) -> String {
    let Ok(said) = Extensions::read(metadata, connection_mime) else {
        let route = first_route(metadata, connection_mime).ok().flatten();
        return route.map_or(String::new(), |route| format!(" route={}", route.as_str()));
    };
    let mut parts = Vec::new();
    if let Ok(Some(route)) = said.route() {
        parts.push(format!("route={}", route.as_str()));
    }
    match said.authentication() {
        Ok(Some(credentials)) => parts.push(format!("auth={}", without_secrets(&credentials))),
        Ok(None) => {}
        Err(_) => parts.push("auth=malformed".to_owned()),
    }
    match said.data_mime() {
        Ok(Some(mime)) => parts.push(format!("mime={}", named(&mime))),
        Ok(None) => {}
        Err(_) => parts.push("mime=malformed".to_owned()),
    }
    match said.accepted_mimes() {
        Ok(list) => {
            let list = list_of(list).unwrap_or_default();
            parts.extend((!list.is_empty()).then(|| format!("accept={list}")));
        }
        Err(_) => parts.push("accept=malformed".to_owned()),
    }
    match said.trace() {
        Some(TraceContext::Zipkin(zipkin)) => parts.push(zipkin.to_string()),
        Some(TraceContext::TraceParent(parent)) => parts.push(format!("traceparent={parent}")),
        None => {}
    }
    parts.into_iter().map(|part| format!(" {part}")).collect()
}

/// The content of an entry.
pub(crate) fn content(entry: &Entry) -> String {
    let Mime::WellKnown(known) = entry.mime else { return text_or_hex(&entry.content) };
    let content = &entry.content;
    let read = match known {
        WellKnownMime::Authentication => match Authentication::decode(content) {
            Ok(credentials) => Some(without_secrets(&credentials)),
            // Whatever it is, it may be a secret.
            Err(_) => Some(format!("malformed, {}", Count(content.len() as u64, "byte"))),
        },
        WellKnownMime::Tracing => Zipkin::decode(content).map(|zipkin| zipkin.to_string()),
        WellKnownMime::MimeType => decode_stream_mime(content).ok().map(|mime| named(&mime)),
        WellKnownMime::AcceptMimeTypes => list_of(AcceptMimes::new(content.clone())).ok(),
        WellKnownMime::Routing => {
            let tags: Result<Vec<_>, _> = RoutingTags::new(content.clone()).collect();
            tags.ok()
                .map(|tags| tags.iter().map(|tag| text_or_hex(tag)).collect::<Vec<_>>().join(", "))
        }
        _ => None,
    };
    read.unwrap_or_else(|| text_or_hex(content))
}

fn without_secrets(credentials: &Authentication) -> String {
    match credentials {
        Authentication::Simple { username, .. } => {
            format!("simple user={}", String::from_utf8_lossy(username))
        }
        Authentication::Bearer { .. } => "bearer".to_owned(),
        Authentication::Custom { name, .. } => name.escape_ascii().to_string(),
        Authentication::Reserved { id, .. } => format!("type {id:#04x}"),
    }
}

/// A type without spaces.
fn named(mime: &Mime) -> String {
    match mime {
        Mime::Reserved(id) => format!("{id:#04x}"),
        mime => mime.to_string(),
    }
}

fn list_of(mimes: AcceptMimes) -> Result<String, MetadataError> {
    let mut names = Vec::new();
    for mime in mimes {
        if names.len() == MAX_SHOWN {
            names.push("…".to_owned());
            break;
        }
        names.push(named(&mime?));
    }
    Ok(names.join(","))
}

#[cfg(test)]
mod tests {
    use rsock::{
        Payload, PayloadExt,
        metadata::{TraceParent, mime},
    };

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn said(payload: Payload) -> String {
        summary(&payload.metadata.unwrap(), mime::COMPOSITE_METADATA)
    }

    #[test]
    fn each_extension_is_said_in_words() {
        let accepted = [Mime::from(WellKnownMime::Cbor), Mime::Reserved(0x30)];
        let simple = Authentication::simple("ann", "hunter2");
        let all = Payload::default()
            .route("a")
            .and_then(|it| it.authentication(&simple))
            .and_then(|it| it.data_mime("x/y".parse::<Mime>().unwrap()))
            .and_then(|it| it.accept(&accepted))
            .and_then(|it| it.zipkin(&Zipkin::decode(&[0x20]).unwrap()));
        let expected = " route=a auth=simple user=ann mime=x/y accept=application/cbor sampled";
        assert_eq!(said(all.unwrap()), expected);
        let parent: TraceParent = PARENT.parse().unwrap();
        let bearer = Authentication::bearer("hunter2");
        let some =
            Payload::default().authentication(&bearer).and_then(|it| it.traceparent(&parent));
        assert_eq!(said(some.unwrap()), format!(" auth=bearer traceparent={PARENT}"));
    }

    #[test]
    fn what_cannot_be_read_says_so_and_no_more() {
        let metadata = Bytes::from_static(b"\xfc\0\0\x05\x80\0\xffpw\xfa\0\0\0\xfb\0\0\0");
        let said = summary(&metadata, mime::COMPOSITE_METADATA);
        assert_eq!(said, " auth=malformed mime=malformed accept=malformed");
        // The beginning of more, as a fragment has it.
        let cut = Bytes::from_static(b"\xfe\0\0\x02\x01a\x85\0\0\xff{");
        assert_eq!(summary(&cut, mime::COMPOSITE_METADATA), " route=a");
        assert_eq!(summary(&cut, mime::APPLICATION_JSON), "");
    }

    #[test]
    fn contents_are_shown_and_secrets_are_not() {
        for (mime, content, shown) in [
            (WellKnownMime::Json.into(), &b"{}"[..], "{}"),
            (WellKnownMime::Routing.into(), b"\x01a\x02bc", "a, bc"),
            (WellKnownMime::Authentication.into(), b"\x80\0\x01apw", "simple user=a"),
            (WellKnownMime::Authentication.into(), b"\x80\0\xffpw", "malformed, 5 bytes"),
            (WellKnownMime::Authentication.into(), b"\x81pw", "bearer"),
            (WellKnownMime::Authentication.into(), b"\xffpw", "type 0x7f"),
            (WellKnownMime::Authentication.into(), b"\x01\x1bxpw", "\\x1bx"),
            (WellKnownMime::Tracing.into(), b"\x10", "not sampled"),
            (WellKnownMime::Tracing.into(), b"\xff", "0xff"),
            (WellKnownMime::MimeType.into(), b"\x81", "application/cbor"),
            (
                WellKnownMime::AcceptMimeTypes.into(),
                b"\x81\x85",
                "application/cbor,application/json",
            ),
            (TraceParent::mime(), PARENT.as_bytes(), PARENT),
        ] {
            let entry = Entry { mime, content: Bytes::from_static(content) };
            assert_eq!(super::content(&entry), shown);
        }
    }
}
