//! The messages of `rsock.json.v1`, read and written.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use bytes::Bytes;
use rsock_topics::Readable;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The largest number that all languages have as a whole number.
const MAX_ID: u64 = (1 << 53) - 1;
/// The most that may be asked for at a time.
const MAX_N: u32 = 0x7fff_ffff;
/// The longest JSON that comes back with a pong, in bytes.
const MAX_PING: usize = 64;
/// The members of which a message has one: it says what the message is.
const VERBS: &str =
    "one of request, stream, channel, fnf, next, text, base64, n, complete, cancel, auth, ping";

/// The data of a request or an item, with the JSON beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Data {
    pub(crate) bytes: Bytes,
    /// A JSON object.
    pub(crate) meta: Option<Bytes>,
}

impl Data {
    /// The bytes that are held with it.
    pub(crate) fn held(&self) -> usize {
        self.bytes.len() + self.meta.as_ref().map_or(0, Bytes::len)
    }
}

/// The interaction that a message begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Response,
    Stream,
    Channel,
}

/// Credentials, as a first message has them.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    Bearer(String),
    Password { user: String, password: String },
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bearer(_) => "Bearer",
            Self::Password { .. } => "Password",
        })
    }
}

/// A message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Open { id: u64, kind: Kind, route: String, data: Data, n: Option<u32> },
    Forget { route: String, data: Data },
    Next { id: u64, data: Data },
    Complete { id: u64 },
    Credit { id: u64, n: u32 },
    Cancel { id: u64 },
    Auth(Credentials),
    Ping(String),
}

/// All that a message may have. What it is, is judged when it is known what it has.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields<'a> {
    id: Option<u64>,
    request: Option<String>,
    stream: Option<String>,
    channel: Option<String>,
    fnf: Option<String>,
    #[serde(borrow, default, deserialize_with = "any")]
    data: Option<&'a RawValue>,
    text: Option<String>,
    base64: Option<String>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
    n: Option<u64>,
    cancel: Option<bool>,
    #[serde(borrow, default, deserialize_with = "any")]
    next: Option<&'a RawValue>,
    complete: Option<bool>,
    #[serde(borrow)]
    auth: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "any")]
    ping: Option<&'a RawValue>,
}

/// Any value that is there; `null` is one.
fn any<'de: 'a, 'a, D>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Auth {
    Bearer(String),
    Password { user: String, password: String },
}

impl Message {
    /// Reads a message.
    ///
    /// # Errors
    /// What is wrong with it, as a sentence: the WebSocket is closed with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if !text.trim_start().starts_with('{') {
            return Err("a message is a JSON object".to_owned());
        }
        let fields: Fields<'_> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        fields.judge()
    }
}

impl Fields<'_> {
    fn judge(mut self) -> Result<Message, String> {
        let verb = self.verb()?;
        let message = match verb {
            Verb::Open(kind, route) => {
                let n = self.n.take().map(credit).transpose()?;
                if n.is_some() && kind == Kind::Response {
                    return Err(
                        "n is for streams and channels: a request has one answer".to_owned()
                    );
                }
                Message::Open { id: self.id()?, kind, route, data: self.data()?, n }
            }
            Verb::Forget(route) => Message::Forget { route, data: self.data()? },
            Verb::Next => Message::Next { id: self.id()?, data: self.data()? },
            Verb::Complete => Message::Complete { id: self.id()? },
            Verb::Cancel => Message::Cancel { id: self.id()? },
            Verb::Credit(n) => Message::Credit { id: self.id()?, n },
            Verb::Auth(own) => Message::Auth(own),
            Verb::Ping(value) => Message::Ping(value),
        };
        self.nothing_is_left()?;
        Ok(message)
    }

    /// The member that says what the message is, and no other such.
    fn verb(&mut self) -> Result<Verb, String> {
        let mut verbs = Vec::new();
        let opens = [
            (Kind::Response, self.request.take()),
            (Kind::Stream, self.stream.take()),
            (Kind::Channel, self.channel.take()),
        ];
        let opened = opens.into_iter().filter_map(|(kind, route)| Some(Verb::Open(kind, route?)));
        verbs.extend(opened);
        verbs.extend(self.fnf.take().map(Verb::Forget));
        if let Some(auth) = self.auth.take() {
            verbs.push(Verb::Auth(credentials(auth.get())?));
        }
        if let Some(ping) = self.ping.take() {
            if ping.get().len() > MAX_PING {
                return Err(format!("a ping has {MAX_PING} bytes of JSON at most"));
            }
            verbs.push(Verb::Ping(ping.get().to_owned()));
        }
        for (said, name, verb) in [
            (self.complete.take(), "complete", Verb::Complete),
            (self.cancel.take(), "cancel", Verb::Cancel),
        ] {
            match said {
                None => {}
                Some(true) => verbs.push(verb),
                Some(false) => return Err(format!("{name} is true, or not there")),
            }
        }
        if verbs.is_empty() {
            if self.next.is_some() || self.text.is_some() || self.base64.is_some() {
                return Ok(Verb::Next);
            }
            if let Some(n) = self.n.take() {
                return credit(n).map(Verb::Credit);
            }
        }
        let (Some(verb), true) = (verbs.pop(), verbs.is_empty()) else {
            return Err(format!("a message has {VERBS}"));
        };
        Ok(verb)
    }

    fn id(&mut self) -> Result<u64, String> {
        let id = self.id.take().ok_or("a message of this kind has an id")?;
        if id > MAX_ID { Err(format!("an id is at most {MAX_ID}: {id}")) } else { Ok(id) }
    }

    fn data(&mut self) -> Result<Data, String> {
        let json = self.data.take().or_else(|| self.next.take());
        let bytes = match (json, self.text.take(), self.base64.take()) {
            (None, None, None) => Bytes::new(),
            (Some(json), None, None) => Bytes::copy_from_slice(json.get().as_bytes()),
            (None, Some(text), None) => text.into(),
            (None, None, Some(base64)) => match BASE64_STANDARD.decode(base64) {
                Ok(bytes) => bytes.into(),
                Err(error) => return Err(format!("base64: {error}")),
            },
            _ => return Err("data are in one of data (or next), text and base64".to_owned()),
        };
        let meta = self.meta.take().map(|meta| meta.get());
        if meta.is_some_and(|meta| !meta.starts_with('{')) {
            return Err("meta is a JSON object".to_owned());
        }
        Ok(Data { bytes, meta: meta.map(|meta| Bytes::copy_from_slice(meta.as_bytes())) })
    }

    /// Members that this kind of message does not have.
    fn nothing_is_left(&self) -> Result<(), String> {
        let left = [
            ("id", self.id.is_some()),
            ("data", self.data.is_some()),
            ("next", self.next.is_some()),
            ("text", self.text.is_some()),
            ("base64", self.base64.is_some()),
            ("meta", self.meta.is_some()),
            ("n", self.n.is_some()),
        ];
        match left.iter().find(|(_, is_left)| *is_left) {
            None => Ok(()),
            Some((name, _)) => Err(format!("a message of this kind has no {name}")),
        }
    }
}

/// The member that says what a message is.
enum Verb {
    Open(Kind, String),
    Forget(String),
    Next,
    Complete,
    Cancel,
    Credit(u32),
    Auth(Credentials),
    Ping(String),
}

fn credit(n: u64) -> Result<u32, String> {
    let known = u32::try_from(n).ok().filter(|n| (1..=MAX_N).contains(n));
    known.ok_or_else(|| format!("n is from 1 to {MAX_N}: {n}"))
}

fn credentials(json: &str) -> Result<Credentials, String> {
    match serde_json::from_str(json) {
        Ok(Auth::Bearer(token)) => Ok(Credentials::Bearer(token)),
        Ok(Auth::Password { user, password }) => Ok(Credentials::Password { user, password }),
        // The error might quote it.
        Err(_) => Err("auth is a token, or {\"user\":…,\"password\":…}".to_owned()),
    }
}

/// A message of the service.
#[derive(Debug, Serialize)]
struct Told<'a> {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    meta: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    complete: bool,
}

/// An item, and whether it is the last.
pub(crate) fn item(id: u64, data: &Data, complete: bool) -> String {
    let (mut next, mut text, mut base64) = (None, None, None);
    match Readable::of(&data.bytes) {
        Readable::Json(json) => next = Some(json),
        Readable::Text(plain) => text = Some(plain),
        Readable::Base64(encoded) => base64 = Some(encoded),
        Readable::Deleted(_) => {}
    }
    let meta = data.meta.as_deref().and_then(|meta| serde_json::from_slice(meta).ok());
    written(&Told { id, next, text, base64, meta, complete })
}

pub(crate) fn complete(id: u64) -> String {
    format!("{{\"id\":{id},\"complete\":true}}")
}

pub(crate) fn credited(id: u64, n: u32) -> String {
    format!("{{\"id\":{id},\"n\":{n}}}")
}

pub(crate) fn pong(value: &str) -> String {
    format!("{{\"pong\":{value}}}")
}

pub(crate) fn authenticated() -> String {
    "{\"auth\":true}".to_owned()
}

pub(crate) fn drain(millis: u128) -> String {
    format!("{{\"drain\":{millis}}}")
}

pub(crate) fn error(id: u64, code: &str, message: &str) -> String {
    #[derive(Serialize)]
    struct Failed<'a> {
        id: u64,
        error: Problem<'a>,
    }
    #[derive(Serialize)]
    struct Problem<'a> {
        code: &'a str,
        message: &'a str,
    }
    written(&Failed { id, error: Problem { code, message } })
}

/// JSON on one line: a line break is white space in it, or it would be escaped.
fn written(value: &impl Serialize) -> String {
    // Its parts have been JSON before, or are text.
    let json = serde_json::to_string(value).unwrap_or_default();
    if json.contains(['\n', '\r']) { json.replace(['\n', '\r'], " ") } else { json }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(bytes: &str) -> Data {
        Data { bytes: Bytes::copy_from_slice(bytes.as_bytes()), meta: None }
    }

    #[test]
    fn each_kind_of_message_is_read() {
        let open = |kind, data, n| Message::Open { id: 1, kind, route: "a".to_owned(), data, n };
        let with_meta = Data { meta: Some(Bytes::from_static(b"{\"id\":\"x\"}")), ..data("1") };
        for (text, expected) in [
            (r#"{"id":1,"request":"a"}"#, open(Kind::Response, data(""), None)),
            (r#"{"id":1,"request":"a","data":null}"#, open(Kind::Response, data("null"), None)),
            (
                r#"{"data":{"b": [1]},"id":1,"stream":"a","n":5}"#,
                open(Kind::Stream, data(r#"{"b": [1]}"#), Some(5)),
            ),
            (r#"{"id":1,"channel":"a","text":"grüße"}"#, open(Kind::Channel, data("grüße"), None)),
            (r#"{"id":1,"request":"a","base64":"aGk="}"#, open(Kind::Response, data("hi"), None)),
            (
                r#"{"id":1,"request":"a","data":1,"meta":{"id":"x"}}"#,
                open(Kind::Response, with_meta, None),
            ),
            (
                r#"{"fnf":"a","data":"x"}"#,
                Message::Forget { route: "a".to_owned(), data: data("\"x\"") },
            ),
            (r#"{"id":0,"next":2}"#, Message::Next { id: 0, data: data("2") }),
            (r#"{"id":3,"text":"hi"}"#, Message::Next { id: 3, data: data("hi") }),
            (r#"{"id":3,"complete":true}"#, Message::Complete { id: 3 }),
            (r#"{"id":9007199254740991,"cancel":true}"#, Message::Cancel { id: MAX_ID }),
            (r#"{"id":3,"n":2147483647}"#, Message::Credit { id: 3, n: MAX_N }),
            (r#" {"ping": 1.5 } "#, Message::Ping("1.5".to_owned())),
            (r#"{"ping":null}"#, Message::Ping("null".to_owned())),
            (r#"{"auth":"t"}"#, Message::Auth(Credentials::Bearer("t".to_owned()))),
            (
                r#"{"auth":{"user":"ann","password":"p"}}"#,
                Message::Auth(Credentials::Password {
                    user: "ann".to_owned(),
                    password: "p".to_owned(),
                }),
            ),
        ] {
            assert_eq!(Message::parse(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn whatever_is_not_understood_is_named() {
        let deep = format!(r#"{{"id":1,"request":"a","data":{}"#, "[".repeat(60_000));
        for (text, told) in [
            ("", "a JSON object"),
            ("[]", "a JSON object"),
            ("{", "EOF"),
            ("{}", "a message has one of request"),
            (r#"{"id":1}"#, "a message has one of request"),
            (r#"{"id":1,"requst":"a"}"#, "unknown field `requst`"),
            (r#"{"id":1,"id":1,"request":"a"}"#, "duplicate field `id`"),
            (r#"{"request":"a"}"#, "has an id"),
            (r#"{"id":1,"request":"a","stream":"b"}"#, "a message has one of"),
            (r#"{"id":1,"request":"a","n":1}"#, "n is for streams"),
            (r#"{"id":1,"request":1}"#, "expected a string"),
            (r#"{"id":"1","request":"a"}"#, "expected u64"),
            (r#"{"id":-1,"request":"a"}"#, "expected u64"),
            (r#"{"id":1.5,"request":"a"}"#, "expected u64"),
            (r#"{"id":9007199254740992,"request":"a"}"#, "at most 9007199254740991"),
            (r#"{"id":18446744073709551616,"request":"a"}"#, "expected u64"),
            (r#"{"id":1,"n":0}"#, "n is from 1"),
            (r#"{"id":1,"n":2147483648}"#, "n is from 1"),
            (r#"{"id":1,"cancel":false}"#, "cancel is true"),
            (r#"{"id":1,"cancel":true,"complete":true}"#, "a message has one of"),
            (r#"{"id":1,"cancel":true,"data":1}"#, "has no data"),
            (r#"{"fnf":"a","id":1}"#, "has no id"),
            (r#"{"id":1,"request":"a","data":1,"text":"x"}"#, "one of data"),
            (r#"{"id":1,"next":1,"base64":"aGk="}"#, "one of data"),
            (r#"{"id":1,"request":"a","base64":"%"}"#, "base64: "),
            (r#"{"id":1,"request":"a","meta":[]}"#, "meta is a JSON object"),
            (r#"{"auth":["secret"]}"#, "auth is a token"),
            (r#"{"auth":{"user":"ann","pasword":"p"}}"#, "auth is a token"),
            (
                r#"{"ping":"0123456789012345678901234567890123456789012345678901234567890123"}"#,
                "64 bytes",
            ),
            (r#"{"ping":1} {"ping":2}"#, "trailing characters"),
            (&deep, "EOF"),
        ] {
            let error = Message::parse(text).expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn messages_of_the_service_are_on_one_line() {
        let meta = Some(Bytes::from_static(b"{\"offset\": 1}"));
        for (bytes, last, expected) in [
            (&b"{\"a\":\n 1}"[..], false, r#"{"id":2,"next":{"a":  1},"meta":{"offset": 1}}"#),
            (b"hi \"you\"\n", false, r#"{"id":2,"text":"hi \"you\"\n","meta":{"offset": 1}}"#),
            (b"\xff", true, r#"{"id":2,"base64":"/w==","meta":{"offset": 1},"complete":true}"#),
            (b"", true, r#"{"id":2,"text":"","meta":{"offset": 1},"complete":true}"#),
        ] {
            let data = Data { bytes: Bytes::copy_from_slice(bytes), meta: meta.clone() };
            assert_eq!(item(2, &data, last), expected);
        }
        // What all parsers cannot read is text.
        let deep = "[".repeat(40) + &"]".repeat(40);
        assert_eq!(item(2, &data(&deep), false), format!(r#"{{"id":2,"text":"{deep}"}}"#));
        assert_eq!(
            error(1, "REJECTED", "no \"x\""),
            r#"{"id":1,"error":{"code":"REJECTED","message":"no \"x\""}}"#
        );
        assert_eq!(
            (complete(1), credited(1, 8)),
            (r#"{"id":1,"complete":true}"#.into(), r#"{"id":1,"n":8}"#.into())
        );
        assert_eq!((pong("1"), drain(10)), (r#"{"pong":1}"#.into(), r#"{"drain":10}"#.into()));
    }
}
