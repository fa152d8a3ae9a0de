//! Payloads of HTTP requests, and answers that are payloads.

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use rsock::{
    HttpRequest, HttpResponse, Payload, PayloadExt,
    metadata::{CompositeMetadata, Mime, WellKnownMime},
};

use super::problem::Problem;

/// The header of an entry of metadata, as `mime=base64`; there may be several.
const METADATA: &str = "rsock-metadata";
/// The type that curl and forms give whatever they send, so that it says nothing.
const FORM: &str = "application/x-www-form-urlencoded";
/// Types of `Accept` that are passed on.
const MAX_ACCEPTED: usize = 8;

/// A request to a route: the body is its data, and the headers say what its metadata are.
///
/// # Errors
/// A header that cannot be metadata.
pub(super) fn payload(
    request: &HttpRequest,
    route: &str,
    data: impl Into<Bytes>,
) -> Result<Payload, Problem> {
    let mut payload = Payload::new(data).route(route)?;
    let said = request.header("content-type").filter(|mime| !mime.starts_with(FORM));
    if let Some(mime) = said.and_then(mime) {
        payload = payload.data_mime(mime)?;
    }
    let accepted = request.header("accept").unwrap_or_default().split(',');
    let accepted: Vec<_> = accepted.filter_map(mime).take(MAX_ACCEPTED).collect();
    if !accepted.is_empty() {
        payload = payload.accept(&accepted)?;
    }
    for value in request.headers().get_all(METADATA) {
        let entry = value.to_str().ok().and_then(entry).ok_or_else(|| {
            Problem::invalid(
                "Rsock-Metadata: it is the type of an entry, =, and its content in base64",
            )
        })?;
        let (mime, content) = entry;
        if mime == WellKnownMime::Routing.into() {
            return Err(Problem::invalid("Rsock-Metadata: the route stands in the path"));
        }
        if mime == WellKnownMime::Authentication.into() {
            return Err(Problem::invalid(
                "Rsock-Metadata: credentials stand in the header Authorization",
            ));
        }
        payload = payload.entry(mime, content)?;
    }
    Ok(payload)
}

/// A media type without its parameters, unless it stands for several.
fn mime(range: &str) -> Option<Mime> {
    let name = range.split(';').next().unwrap_or_default().trim();
    if name.is_empty() || name.contains('*') { None } else { name.parse().ok() }
}

fn entry(text: &str) -> Option<(Mime, Vec<u8>)> {
    let (mime, content) = text.split_once('=')?;
    Some((mime.trim().parse().ok()?, BASE64_STANDARD.decode(content.trim()).ok()?))
}

/// The answer of a request-response.
pub(super) fn answer(payload: Option<Payload>) -> HttpResponse {
    let Some(payload) = payload else { return HttpResponse::new(204, "") };
    let (mut mime, mut entries) = (None, Vec::new());
    let metadata = payload.metadata.clone().unwrap_or_default();
    for entry in CompositeMetadata::new(metadata).map_while(Result::ok) {
        if entry.mime == WellKnownMime::MimeType.into() {
            mime = rsock::metadata::decode_stream_mime(&entry.content).ok();
        } else if !is_of_request(&entry.mime)
            && let Some(name) = entry.mime.as_str()
        {
            entries.push(format!("{name}={}", BASE64_STANDARD.encode(&entry.content)));
        }
    }
    let said = mime.as_ref().and_then(Mime::as_str);
    let mime = said.unwrap_or_else(|| guessed(&payload.data)).to_owned();
    let mut answer = HttpResponse::new(200, payload.data)
        .header("content-type", mime)
        .header("cache-control", "no-store");
    for entry in entries {
        if let Ok(value) = entry.try_into() {
            answer.headers_mut().append(METADATA, value);
        }
    }
    answer
}

/// Whether an entry says something about a request, and nothing about its answer: what is sent back as it came has
/// both.
fn is_of_request(mime: &Mime) -> bool {
    [WellKnownMime::Routing, WellKnownMime::AcceptMimeTypes].iter().any(|it| *mime == (*it).into())
}

/// The type of data of which nobody says it.
fn guessed(data: &[u8]) -> &'static str {
    match (data.first(), str::from_utf8(data)) {
        (Some(b'{' | b'['), Ok(text))
            if serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok() =>
        {
            "application/json"
        }
        (_, Ok(_)) => "text/plain; charset=utf-8",
        (_, Err(_)) => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use rsock::http::{Method, Uri};

    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> HttpRequest {
        let uri = Uri::from_static("/api/request/echo");
        let mut request = HttpRequest::local(Method::POST, uri, "");
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().expect("a value"));
        }
        request
    }

    #[test]
    fn headers_are_metadata_and_come_back_as_headers() {
        let sent = request(&[
            ("content-type", "application/json; charset=utf-8"),
            ("accept", "text/plain, */*;q=0.1"),
            ("rsock-metadata", "text/css=YQ=="),
            ("rsock-metadata", "x/own=Yg=="),
        ]);
        let payload = payload(&sent, "echo", "{}").expect("a payload");
        let extensions = payload.extensions().expect("whole");
        assert_eq!(extensions.data_mime().expect("whole"), Some(WellKnownMime::Json.into()));
        let answer = answer(Some(payload));
        let all = |name| {
            let values = answer.headers().get_all(name).iter();
            values.map(|value| value.to_str().expect("ASCII")).collect::<Vec<_>>()
        };
        assert_eq!(all("content-type"), ["application/json"]);
        assert_eq!(all("rsock-metadata"), ["text/css=YQ==", "x/own=Yg=="]);
    }

    #[test]
    fn metadata_that_are_not_or_stand_elsewhere_are_refused() {
        for value in [
            "text/plain",
            "=YQ==",
            "text/plain=!",
            "message/x.rsocket.routing.v0=YQ==",
            "message/x.rsocket.authentication.v0=YQ==",
        ] {
            let problem = payload(&request(&[("rsock-metadata", value)]), "echo", "");
            assert_eq!(problem.map(drop).map_err(|it| it.status()), Err(400), "{value}");
        }
    }

    #[test]
    fn types_that_nobody_says_are_guessed() {
        for (data, mime) in [
            (&b"{\"a\":1}"[..], "application/json"),
            (b"{oops", "text/plain; charset=utf-8"),
            (b"", "text/plain; charset=utf-8"),
            (b"5", "text/plain; charset=utf-8"),
            (b"\xff", "application/octet-stream"),
        ] {
            assert_eq!(guessed(data), mime);
        }
        assert_eq!(answer(None).status(), 204);
    }
}
