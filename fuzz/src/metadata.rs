//! Metadata: every decoder over the same bytes.

use bytes::{Bytes, BytesMut};
use rsock_proto::metadata::{
    AcceptMimes, Authentication, CompositeBuilder, CompositeMetadata, Extensions, LengthCoding,
    MetadataError, Mime, RoutingTags, TraceContext, TraceParent, WellKnownMime, Zipkin,
    decode_stream_mime, encode_accept_mimes, encode_stream_mime, encode_tags, first_route, mime,
};

/// Runs every decoder to its end; what can be encoded again says the same.
pub fn metadata(data: &[u8]) {
    let data = Bytes::copy_from_slice(data);
    composite(&data);
    routing(&data);
    authentication(&data, LengthCoding::MinusOne);
    authentication(&data, LengthCoding::Plain);
    stream_mime(&data);
    accept(&data);
    zipkin(&data);
    traceparent(&data);
    extensions(&data);
}

/// Takes what an iterator yields; no more items than fit, and after an error nothing.
fn collect<T>(
    items: impl Iterator<Item = Result<T, MetadataError>>,
    most: usize,
) -> (Vec<T>, Option<MetadataError>) {
    let (mut good, mut bad) = (Vec::new(), None);
    for item in items {
        assert!(bad.is_none(), "nothing follows an error");
        match item {
            Ok(item) => good.push(item),
            Err(error) => {
                assert!(error.is_violation(), "{error:?}");
                bad = Some(error);
            }
        }
        assert!(good.len() <= most, "more items than there are bytes");
    }
    (good, bad)
}

/// Whether this part of some metadata is a slice of it, not a copy.
fn assert_shared(part: &[u8], whole: &[u8]) {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    // No bytes have no place.
    assert!(
        part.is_empty() || whole.start <= part.start && part.end <= whole.end,
        "decoding copies nothing"
    );
}

fn composite(data: &Bytes) {
    let entries = CompositeMetadata::new(data.clone());
    let (entries, error) = collect(entries, data.len() / 4);
    let mut builder = CompositeBuilder::new();
    let mut sendable = Vec::new();
    for entry in &entries {
        assert_shared(&entry.content, data);
        let found = CompositeMetadata::new(data.clone()).find(entry.mime.clone());
        let first = entries.iter().find(|other| other.mime == entry.mime);
        assert_eq!(found.ok().flatten().as_ref(), first.map(|first| &first.content));
        match builder.push(entry.mime.clone(), &entry.content) {
            Ok(_) => sendable.push(entry.clone()),
            Err(error) => assert!(matches!(error, MetadataError::NotAscii { .. }), "{error:?}"),
        }
        if entry.content.len() < data.len() {
            routing(&entry.content);
        }
    }
    let again = CompositeMetadata::new(builder.finish());
    assert_eq!(collect(again, data.len()), (sendable, None));

    let tags = entries.iter().find(|entry| entry.mime.as_str() == Some(mime::ROUTING));
    match first_route(data, mime::COMPOSITE_METADATA) {
        Ok(Some(route)) => assert!(tags.is_some_and(|tags| !tags.content.is_empty()), "{route}"),
        Ok(None) => assert!(tags.is_none_or(|tags| tags.content.is_empty())),
        Err(reason) => {
            assert!(error.is_some() || tags.is_some(), "{reason}");
            assert!(reason.is_violation());
        }
    }
    assert_eq!(first_route(data, "a/b"), Ok(None));
}

fn routing(data: &Bytes) {
    let (tags, error) = collect(RoutingTags::new(data.clone()), data.len());
    for tag in &tags {
        assert_shared(tag, data);
    }
    match first_route(data, mime::ROUTING) {
        Ok(Some(route)) => {
            assert_eq!(Some(route.as_str().as_bytes()), tags.first().map(|tag| &**tag))
        }
        Ok(None) => assert!(data.is_empty()),
        Err(MetadataError::NotUtf8 { valid_up_to, .. }) => {
            assert!(str::from_utf8(&tags[0][..valid_up_to]).is_ok());
            assert!(str::from_utf8(&tags[0]).is_err());
        }
        Err(reason) => assert_eq!(Some(reason), error),
    }
    let texts: Option<Vec<_>> = tags.iter().map(|tag| str::from_utf8(tag).ok()).collect();
    if let (Some(texts), None) = (texts, error) {
        assert_eq!(encode_tags(texts).as_ref(), Ok(data));
    }
}

fn authentication(data: &Bytes, coding: LengthCoding) {
    let Ok(credentials) = Authentication::decode_with(data, coding) else { return };
    _ = format!("{credentials:?}");
    match credentials.encode_with(coding) {
        Ok(encoded) => assert_eq!(encoded, data),
        Err(error) => assert!(matches!(error, MetadataError::NotAscii { .. }), "{error:?}"),
    }
}

fn stream_mime(data: &Bytes) {
    let Ok(mime) = decode_stream_mime(data) else { return };
    _ = mime.to_string();
    match encode_stream_mime(&mime) {
        Ok(encoded) => assert_eq!(decode_stream_mime(&encoded), Ok(mime)),
        Err(error) => assert!(matches!(error, MetadataError::NotAscii { .. }), "{error:?}"),
    }
}

fn accept(data: &Bytes) {
    let (mimes, _) = collect(AcceptMimes::new(data.clone()), data.len());
    let sendable: Vec<Mime> =
        mimes.into_iter().filter(|mime| mime.encode(&mut BytesMut::new()).is_ok()).collect();
    match encode_accept_mimes(&sendable) {
        Ok(encoded) => {
            assert_eq!(collect(AcceptMimes::new(encoded), data.len()), (sendable, None));
        }
        Err(error) => {
            assert!(matches!(error, MetadataError::Empty { .. }), "{error:?}");
            assert!(sendable.is_empty());
        }
    }
}

fn zipkin(data: &Bytes) {
    let Some(zipkin) = Zipkin::decode(data) else { return };
    _ = zipkin.to_string();
    let encoded = zipkin.encode();
    assert!([1, 17, 25, 33].contains(&encoded.len()), "{} bytes", encoded.len());
    assert_eq!(Zipkin::decode(&encoded), Some(zipkin));
    // All but flags that say nothing, or nothing more, is as it was; a surplus is left out.
    assert_eq!(encoded[1..], data[1..encoded.len()]);
    for len in 0..encoded.len() {
        assert_eq!(Zipkin::decode(&encoded[..len]), None);
    }
}

fn traceparent(data: &Bytes) {
    let Some(parent) = TraceParent::decode(data) else { return };
    let text = parent.to_string();
    assert_eq!(text.as_bytes()[2..53], data[2..53]);
    let again: Result<TraceParent, _> = text.parse();
    assert_eq!(again.map(|again| again.to_string()), Ok(text));
}

/// Checks that one pass finds what a search for each type finds.
fn extensions(data: &Bytes) {
    let entries = CompositeMetadata::new(data.clone());
    let found = match Extensions::read(data, mime::COMPOSITE_METADATA) {
        Ok(found) => found,
        Err(error) => return assert_eq!(entries.last(), Some(Err(error))),
    };
    let find = |mime: Mime| entries.find(mime).ok().flatten();
    assert_eq!(found.route(), first_route(data, mime::COMPOSITE_METADATA));
    let credentials = find(WellKnownMime::Authentication.into());
    assert_eq!(found.raw_authentication(), credentials.as_ref());
    let mime = find(WellKnownMime::MimeType.into());
    assert_eq!(found.data_mime(), mime.as_ref().map(decode_stream_mime).transpose());
    let accepted = find(WellKnownMime::AcceptMimeTypes.into());
    let accepted = accepted.map_or(Ok(Vec::new()), |content| AcceptMimes::new(content).collect());
    let listed = found.accepted_mimes().map(|all| all.map(|mime| mime.expect("checked")).collect());
    assert_eq!(listed, accepted);
    let zipkin = find(WellKnownMime::Tracing.into()).and_then(|content| Zipkin::decode(&content));
    let parent = find(TraceParent::mime()).and_then(|content| TraceParent::decode(&content));
    let trace = zipkin.map(TraceContext::Zipkin).or(parent.map(TraceContext::TraceParent));
    assert_eq!(found.trace(), trace);
}
