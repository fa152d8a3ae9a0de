//! The forms in which items go out: events (SSE), lines of JSON (NDJSON), and bytes with their length before them.

use bytes::{BufMut, BytesMut};
use rsock::{
    Error, Payload,
    metadata::{CompositeMetadata, WellKnownMime},
};
use rsock_topics::Readable;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::Value;

use super::problem::Problem;

/// The name of a stream's last event, and what a client says of it that asks again: there is nothing behind it.
pub(super) const END: &str = "end";

/// A form of items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// `text/event-stream`
    Events,
    /// `application/x-ndjson`
    Lines,
    /// `application/octet-stream`: u32 length each, big-endian.
    Octets,
    /// `application/json`: one answer, and not a stream.
    Whole,
}

impl Format {
    pub(super) fn mime(self) -> &'static str {
        match self {
            Self::Events => "text/event-stream",
            Self::Lines => "application/x-ndjson",
            Self::Octets => "application/octet-stream",
            Self::Whole => "application/json",
        }
    }

    fn named(mime: &str) -> Option<Self> {
        match mime {
            "text/event-stream" => Some(Self::Events),
            "application/x-ndjson" | "application/ndjson" | "application/jsonl" => {
                Some(Self::Lines)
            }
            "application/octet-stream" => Some(Self::Octets),
            "application/json" => Some(Self::Whole),
            _ => None,
        }
    }

    /// The first of these that a client accepts, in its order; the first of all where any will do.
    pub(super) fn accepted(accept: Option<&str>, offered: &[Self]) -> Result<Self, Problem> {
        let there_is = || {
            let names: Vec<_> = offered.iter().map(|format| format.mime()).collect();
            Problem::not_acceptable(&names.join(", "))
        };
        let first = offered.first().copied();
        let Some(accept) = accept else { return first.ok_or_else(there_is) };
        let ranges = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let mime = parts.next()?.to_ascii_lowercase();
            let is_refused = parts.any(|part| {
                part.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0)
            });
            (!is_refused).then_some(mime)
        });
        for mime in ranges {
            let found = match mime.as_str() {
                "*/*" => first,
                "application/*" => offered.iter().find(|it| **it != Self::Events).copied(),
                "text/*" => offered.iter().find(|it| **it == Self::Events).copied(),
                mime => Self::named(mime).filter(|format| offered.contains(format)),
            };
            if let Some(found) = found {
                return Ok(found);
            }
        }
        Err(there_is())
    }
}

/// The source of items, which says what their metadata mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    /// Any route.
    Route,
    /// A topic: each has its position.
    Topic,
    /// The members of a topic, and how they change.
    Presence,
}

/// Writes items.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoder {
    pub(super) format: Format,
    pub(super) of: Of,
    /// Each item is JSON with what the service says beside its data.
    pub(super) has_envelope: bool,
}

/// The part of what is said beside an item of a topic that events have to have.
#[derive(Deserialize)]
struct Beside<'a> {
    epoch: Option<&'a str>,
    offset: Option<u64>,
    base: Option<u64>,
    gap: Option<Missing>,
    start: Option<Started<'a>>,
    live: Option<Value>,
    event: Option<&'a str>,
    #[serde(default)]
    ephemeral: bool,
    #[serde(default)]
    deleted: bool,
}

#[derive(Deserialize)]
struct Missing {
    to: Option<u64>,
}

#[derive(Deserialize)]
struct Started<'a> {
    epoch: &'a str,
    next: u64,
}

/// A message or anything else that is told, and the position behind it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Something that was asked for.
    Item,
    /// Something that is told beside.
    Beside,
}

/// The JSON beside an item's data, if there is any.
pub(crate) fn beside(payload: &Payload) -> Option<bytes::Bytes> {
    let metadata = payload.metadata.clone()?;
    CompositeMetadata::new(metadata).find(WellKnownMime::Json).ok().flatten()
}

/// An item as JSON: what is said beside its data, and its data.
pub(crate) fn envelope(payload: &Payload) -> Vec<u8> {
    let said = beside(payload).filter(|json| {
        json.first() == Some(&b'{') && serde_json::from_slice::<IgnoredAny>(json).is_ok()
    });
    let has_data = !payload.data.is_empty()
        || said.as_ref().is_none_or(|said| {
            let has: Has = serde_json::from_slice(said).unwrap_or_default();
            has.offset.is_some() && has.deleted.is_none()
        });
    // It stays in its order: whoever reads it looks at the position first.
    let mut json = said.map_or_else(|| b"{}".to_vec(), |said| said.trim_ascii_end().to_vec());
    if has_data {
        json.pop();
        if json != b"{" {
            json.push(b',');
        }
        // Its forms are all JSON.
        let data = serde_json::to_vec(&Readable::of(&payload.data)).unwrap_or_default();
        json.extend_from_slice(data.get(1..).unwrap_or_default());
    }
    on_one_line(&mut json);
    json
}

/// The members by which it is known whether there are data.
#[derive(Default, Deserialize)]
struct Has {
    offset: Option<IgnoredAny>,
    deleted: Option<IgnoredAny>,
}

/// Puts JSON on one line: a line break is white space in it, or it would be escaped.
fn on_one_line(json: &mut [u8]) {
    for byte in json.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
        *byte = b' ';
    }
}

impl Encoder {
    /// The beginning of the stream. A client whose connection is lost asks again after `retry` milliseconds.
    pub(super) fn begin(self, retry: u64, out: &mut BytesMut) {
        if self.format == Format::Events {
            put(out, &["retry: ", &retry.to_string(), "\n\n"]);
        }
    }

    /// An item.
    ///
    /// # Errors
    /// It has no form here: the stream ends.
    pub(super) fn item(self, payload: &Payload, out: &mut BytesMut) -> Result<Told, Error> {
        match self.of {
            Of::Route => {
                self.data(payload, None, None, out)?;
                Ok(Told::Item)
            }
            Of::Topic | Of::Presence => self.of_service(payload, out),
        }
    }

    /// An item with JSON of the service's own beside its data.
    fn of_service(self, payload: &Payload, out: &mut BytesMut) -> Result<Told, Error> {
        let json = beside(payload).unwrap_or_default();
        let beside: Beside<'_> = serde_json::from_slice(&json).map_err(Error::application)?;
        let position = |epoch: Option<&str>, offset: Option<u64>| {
            epoch.zip(offset).map(|(epoch, offset)| format!("{epoch}:{offset}"))
        };
        if let Some(Started { epoch, next }) = beside.start {
            let behind = next.saturating_sub(1);
            match self.format {
                // It is an event without data, of which the page sees nothing but its id when it comes again.
                Format::Events => put(out, &["id: ", epoch, ":", &behind.to_string(), "\n\n"]),
                _ => self.beside_alone(payload, out),
            }
            return Ok(Told::Beside);
        }
        if let Some(gap) = &beside.gap {
            let behind = gap.to.or_else(|| beside.base.map(|base| base.saturating_sub(1)));
            let id = position(beside.epoch, behind);
            match self.format {
                Format::Events => event(out, id.as_deref(), Some("gap"), &text_of(&json)),
                _ => self.beside_alone(payload, out),
            }
            return Ok(Told::Beside);
        }
        let name = match (beside.event, beside.live) {
            (Some(name), _) => Some(name),
            (None, Some(_)) => Some("live"),
            (None, None) => None,
        };
        if let Some(name) = name {
            match self.format {
                Format::Events => event(out, None, Some(name), &text_of(&json)),
                _ => self.beside_alone(payload, out),
            }
            let is_beside = self.of == Of::Topic || name == "all";
            return Ok(if is_beside { Told::Beside } else { Told::Item });
        }
        let name = match (beside.ephemeral, beside.deleted) {
            (true, _) => Some("signal"),
            (_, true) => Some("deleted"),
            _ => None,
        };
        let id = position(beside.epoch, beside.offset);
        self.data(payload, id.as_deref(), name, out)?;
        Ok(Told::Item)
    }

    /// A line that has no data of a message.
    fn beside_alone(self, payload: &Payload, out: &mut BytesMut) {
        if self.has_envelope || self.of == Of::Presence {
            out.put_slice(&envelope(payload));
            out.put_u8(b'\n');
        }
    }

    /// The data of an item, and what is said beside them where that is wanted.
    fn data(
        self,
        payload: &Payload,
        id: Option<&str>,
        name: Option<&str>,
        out: &mut BytesMut,
    ) -> Result<(), Error> {
        let data = &payload.data;
        match self.format {
            Format::Events if self.has_envelope => {
                event(out, id, name, &text_of(&envelope(payload)));
            }
            // A line break of another kind would become one of this.
            Format::Events => {
                match std::str::from_utf8(data).ok().filter(|it| !it.contains('\r')) {
                    Some(text) => event(out, id, name, text),
                    None => {
                        let Readable::Base64(text) = Readable::base64(data) else { return Ok(()) };
                        event(out, id, Some("message.base64"), &text);
                    }
                }
            }
            Format::Lines | Format::Whole if self.has_envelope => {
                out.put_slice(&envelope(payload));
                out.put_u8(b'\n');
            }
            Format::Lines | Format::Whole => {
                out.put_slice(&line(data));
                out.put_u8(b'\n');
            }
            Format::Octets => {
                let len = u32::try_from(data.len()).map_err(Error::application)?;
                out.put_u32(len);
                out.put_slice(data);
            }
        }
        Ok(())
    }

    /// The end of the stream.
    pub(super) fn complete(self, out: &mut BytesMut) {
        if self.format == Format::Events {
            event(out, Some(END), Some("complete"), "");
        }
    }

    /// The error that the stream ends with; false where there is no form for it but to break off.
    pub(super) fn error(self, problem: &Problem, out: &mut BytesMut) -> bool {
        match self.format {
            Format::Events => event(out, None, Some("error"), &problem.json()),
            Format::Lines | Format::Whole => put(out, &[&problem.json(), "\n"]),
            Format::Octets => return false,
        }
        true
    }

    /// The service stops: the client is to come again, elsewhere or later.
    pub(super) fn drain(self, out: &mut BytesMut) {
        if self.format == Format::Events {
            event(out, None, Some("drain"), "{}");
        }
    }

    /// Something that says nothing, by which both sides and those between them see that the other is there.
    pub(super) fn heartbeat(self, out: &mut BytesMut) -> bool {
        match self.format {
            Format::Events => put(out, &[":\n\n"]),
            Format::Lines => put(out, &["\n"]),
            Format::Octets | Format::Whole => return false,
        }
        true
    }
}

/// Data as a line of JSON: themselves, or as a string, or as an object that has them in base64.
fn line(data: &[u8]) -> Vec<u8> {
    let mut json = match Readable::of(data) {
        Readable::Json(json) => json.get().as_bytes().to_vec(),
        // Texts can be written as JSON.
        Readable::Text(text) => serde_json::to_vec(text).unwrap_or_default(),
        other => serde_json::to_vec(&other).unwrap_or_default(),
    };
    on_one_line(&mut json);
    json
}

fn text_of(json: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(json)
}

fn put(out: &mut BytesMut, parts: &[&str]) {
    for part in parts {
        out.put_slice(part.as_bytes());
    }
}

/// Writes an event whose data have no line breaks but `\n`.
fn event(out: &mut BytesMut, id: Option<&str>, name: Option<&str>, data: &str) {
    if let Some(id) = id {
        put(out, &["id: ", id, "\n"]);
    }
    if let Some(name) = name {
        put(out, &["event: ", name, "\n"]);
    }
    for line in data.split('\n') {
        put(out, &["data: ", line, "\n"]);
    }
    put(out, &["\n"]);
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rsock::PayloadExt;

    use super::*;

    fn item(beside: &str, data: &'static [u8]) -> Payload {
        let payload = Payload::new(data);
        match beside {
            "" => payload,
            json => payload.entry(WellKnownMime::Json, json).expect("an entry"),
        }
    }

    fn encoded(format: Format, of: Of, has_envelope: bool, payload: &Payload) -> String {
        let mut out = BytesMut::new();
        let encoder = Encoder { format, of, has_envelope };
        encoder.item(payload, &mut out).expect("it has a form");
        String::from_utf8(out.to_vec()).expect("text")
    }

    #[test]
    fn the_form_is_the_first_that_is_accepted() {
        use Format::{Events, Lines, Octets};
        let all = [Lines, Events, Octets];
        for (accept, expected) in [
            (None, Some(Lines)),
            (Some("*/*"), Some(Lines)),
            (Some("text/event-stream"), Some(Events)),
            (Some("text/html, text/event-stream;q=0.5"), Some(Events)),
            (Some("application/octet-stream, */*"), Some(Octets)),
            (Some("application/x-ndjson;q=0, TEXT/EVENT-STREAM"), Some(Events)),
            (Some("text/*"), Some(Events)),
            (Some("application/*"), Some(Lines)),
            (Some("application/json"), None),
            (Some(""), None),
        ] {
            assert_eq!(Format::accepted(accept, &all).ok(), expected, "{accept:?}");
        }
        let refused = Format::accepted(Some("image/png"), &[Events]).expect_err("it is no image");
        assert_eq!(
            (refused.status(), refused.to_string().as_str()),
            (406, "there is text/event-stream")
        );
    }

    #[test]
    fn events_have_the_data_byte_for_byte_or_as_base64() {
        for (data, expected) in [
            (&b"hi"[..], "data: hi\n\n"),
            (b"", "data: \n\n"),
            (b"a\nb\n", "data: a\ndata: b\ndata: \n\n"),
            (b" two", "data:  two\n\n"),
            (b"a\rb", "event: message.base64\ndata: YQ1i\n\n"),
            (b"\xff", "event: message.base64\ndata: /w==\n\n"),
            (b"event: x\n\nid: 5", "data: event: x\ndata: \ndata: id: 5\n\n"),
        ] {
            assert_eq!(encoded(Format::Events, Of::Route, false, &item("", data)), expected);
        }
        let told = item(r#"{"a":1}"#, b" {\n\"b\":\r\n2} ");
        let expected = "data: {\"a\":1,\"data\":{ \"b\":  2}}\n\n";
        assert_eq!(encoded(Format::Events, Of::Route, true, &told), expected);
        for (beside, expected) in [
            ("", "{\"text\":\"x\"}"),
            ("{}", "{\"text\":\"x\"}"),
            ("{\"b\":1,\"a\":2}", "{\"b\":1,\"a\":2,\"text\":\"x\"}"),
            ("[1]", "{\"text\":\"x\"}"),
            ("{\"b\":", "{\"text\":\"x\"}"),
        ] {
            assert_eq!(envelope(&item(beside, b"x")), expected.as_bytes(), "{beside}");
        }
    }

    #[test]
    fn lines_are_json_whatever_the_data_are() {
        for (data, expected) in [
            (&b"{\"a\":\n1}"[..], "{\"a\": 1}\n"),
            (b"text", "\"text\"\n"),
            (b"a\nb", "\"a\\nb\"\n"),
            (b"\xff", "{\"base64\":\"/w==\"}\n"),
            (b"", "\"\"\n"),
            (b"1e999", "\"1e999\"\n"),
        ] {
            assert_eq!(encoded(Format::Lines, Of::Route, false, &item("", data)), expected);
        }
        let mut out = BytesMut::new();
        let octets = Encoder { format: Format::Octets, of: Of::Route, has_envelope: false };
        octets.item(&item("", b"abc"), &mut out).expect("a length");
        assert_eq!(out, Bytes::from_static(b"\0\0\0\x03abc"));
    }

    #[test]
    fn what_a_topic_tells_has_its_position() {
        const EPOCH: &str = "9f3c1a7be2d04411";
        let message =
            format!(r#"{{"topic":"a","epoch":"{EPOCH}","offset":5,"time":7,"from":"ann"}}"#);
        let start = format!(r#"{{"start":{{"epoch":"{EPOCH}","next":1,"base":1,"head":0}}}}"#);
        let gap = format!(r#"{{"gap":{{"from":6,"to":9}},"epoch":"{EPOCH}"}}"#);
        let reset = format!(
            r#"{{"gap":{{"epoch":"c07e55aa01fd9b3e","from":6}},"epoch":"{EPOCH}","base":3}}"#
        );
        let signal = r#"{"topic":"a","ephemeral":true,"time":7}"#;
        let deleted = format!(r#"{{"epoch":"{EPOCH}","offset":6,"key":"k","deleted":true}}"#);
        for (json, data, events, told) in [
            (
                message.as_str(),
                &b"hi"[..],
                format!("id: {EPOCH}:5\ndata: hi\n\n"),
                "\"text\":\"hi\"",
            ),
            (&start, b"", format!("id: {EPOCH}:0\n\n"), "\"next\":1"),
            (&gap, b"", format!("id: {EPOCH}:9\nevent: gap\ndata: {gap}\n\n"), "\"to\":9"),
            (&reset, b"", format!("id: {EPOCH}:2\nevent: gap\ndata: {reset}\n\n"), "\"base\":3"),
            (signal, b"typing", "event: signal\ndata: typing\n\n".to_owned(), "\"ephemeral\":true"),
            (
                &deleted,
                b"",
                format!("id: {EPOCH}:6\nevent: deleted\ndata: \n\n"),
                "\"deleted\":true",
            ),
        ] {
            let payload = item(json, data);
            assert_eq!(encoded(Format::Events, Of::Topic, false, &payload), events);
            let line = encoded(Format::Lines, Of::Topic, true, &payload);
            assert!(line.contains(told) && line.matches('\n').count() == 1, "{line}");
        }
        let join = item(r#"{"event":"join","name":"bob"}"#, b"");
        let expected = "event: join\ndata: {\"event\":\"join\",\"name\":\"bob\"}\n\n";
        assert_eq!(encoded(Format::Events, Of::Presence, false, &join), expected);
    }
}
