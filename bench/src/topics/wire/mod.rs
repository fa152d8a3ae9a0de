//! The bytes that subscribers and publishers send and are sent, for a client that does nothing else.

use crate::Result;

/// The place in a topic at which a subscriber begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    New,
    Start,
}

/// A frame that has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event<'a> {
    /// An item of a subscriber, by its number on the connection; [`Wire::data`] reads it.
    Item { subscriber: u32, frame: &'a [u8] },
    /// The answer to a publish, by its number on the connection; or to what was asked last.
    Answer { number: u32 },
}

/// The credit that a subscriber gives with its request.
pub(super) const UNLIMITED: u32 = 0x7fff_ffff;

/// A protocol, as far as topics need it.
pub(super) trait Wire {
    /// Whether a publish is answered.
    const ACKNOWLEDGES: bool;
    /// Whether each subscription of a connection is answered by an item, or all of them once.
    const ANSWERS_EACH: bool;

    /// Opens the connection.
    fn hello(out: &mut Vec<u8>);

    /// Subscribes, with as much credit where there is any. It is answered: see
    /// [`ANSWERS_EACH`](Self::ANSWERS_EACH).
    fn subscribe(out: &mut Vec<u8>, topic: &str, subscriber: u32, from: From, credit: u32);

    /// Follows the last subscription of a connection.
    fn subscribed(out: &mut Vec<u8>) {
        let _ = out;
    }

    /// Publishes a message.
    fn publish(out: &mut Vec<u8>, topic: &str, number: u32, data: &[u8]);

    /// Takes the whole frames that these bytes begin with; how many bytes they are. What has to be said to
    /// them goes to `reply`.
    fn take(bytes: &[u8], reply: &mut Vec<u8>, event: impl FnMut(Event<'_>)) -> Result<usize>;

    /// The data of an item.
    fn data(frame: &[u8]) -> &[u8];
}

/// RSocket over TCP: routes in composite metadata, as `rsockd` serves topics.
pub(super) struct Rsocket;

const SETUP: u16 = 0x01 << 10;
const KEEPALIVE: u16 = 0x03;
const REQUEST_RESPONSE: u16 = 0x04 << 10;
const REQUEST_STREAM: u16 = 0x06 << 10;
const PAYLOAD: u16 = 0x0a;
const ERROR: u16 = 0x0b;
/// The flag of metadata, of a keepalive that wants an answer, and of a payload that is an item.
const METADATA: u16 = 0x100;
const RESPOND: u16 = 0x80;
const NEXT: u16 = 0x20;
const COMPLETE: u16 = 0x40;
/// Bytes of a frame's length, and of what stands before its body.
const PREFIX: usize = 3;
const HEADER: usize = 6;
const COMPOSITE: &[u8] = b"message/x.rsocket.composite-metadata.v0";
/// The id of `message/x.rsocket.routing.v0`, with the bit that says that it is one.
const ROUTING: u8 = 0xfe;
/// The same of `application/json`.
const JSON: u8 = 0x85;
/// Longer than any measurement.
const NEVER_MS: u32 = 3_600_000;

fn put_u24(out: &mut Vec<u8>, number: usize) {
    crate::frames::put_len(out, number);
}

/// Writes a frame; its length is set when it is known.
fn frame(out: &mut Vec<u8>, stream: u32, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    put_u24(out, 0);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(&kind.to_be_bytes());
    body(out);
    let mut len = Vec::with_capacity(PREFIX);
    put_u24(&mut len, out.len() - begin - PREFIX);
    out[begin..begin + PREFIX].copy_from_slice(&len);
}

fn put_route(out: &mut Vec<u8>, topic: &str) {
    let route = format!("topic.{topic}");
    put_u24(out, 1 + 3 + 1 + route.len());
    out.push(ROUTING);
    put_u24(out, 1 + route.len());
    // Names of ours are short.
    out.push(route.len() as u8);
    out.extend_from_slice(route.as_bytes());
}

fn stream_of(number: u32) -> u32 {
    2 * number + 1
}

impl Wire for Rsocket {
    const ACKNOWLEDGES: bool = true;
    const ANSWERS_EACH: bool = true;

    fn hello(out: &mut Vec<u8>) {
        frame(out, 0, SETUP, |out| {
            out.extend_from_slice(&[0, 1, 0, 0]);
            out.extend_from_slice(&NEVER_MS.to_be_bytes());
            out.extend_from_slice(&NEVER_MS.to_be_bytes());
            for mime in [COMPOSITE, b"application/octet-stream"] {
                out.push(mime.len() as u8);
                out.extend_from_slice(mime);
            }
        });
    }

    fn subscribe(out: &mut Vec<u8>, topic: &str, subscriber: u32, from: From, credit: u32) {
        frame(out, stream_of(subscriber), REQUEST_STREAM | METADATA, |out| {
            out.extend_from_slice(&credit.to_be_bytes());
            put_route(out, topic);
            out.extend_from_slice(match from {
                From::New => br#"{"start":true}"#,
                From::Start => br#"{"start":true,"from":"start"}"#,
            });
        });
    }

    fn publish(out: &mut Vec<u8>, topic: &str, number: u32, data: &[u8]) {
        frame(out, stream_of(number), REQUEST_RESPONSE | METADATA, |out| {
            put_route(out, topic);
            out.extend_from_slice(data);
        });
    }

    #[inline]
    fn take(bytes: &[u8], reply: &mut Vec<u8>, mut event: impl FnMut(Event<'_>)) -> Result<usize> {
        let mut taken = 0;
        while let Some(&[a, b, c, d, e, f, g, h, i]) = bytes[taken..].first_chunk() {
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            let begin = taken + PREFIX;
            let Some(frame) = bytes.get(begin..begin + len) else { break };
            taken = begin + len;
            let stream = u32::from_be_bytes([d, e, f, g]);
            let kind = u16::from_be_bytes([h, i]);
            match kind >> 10 {
                PAYLOAD if kind & NEXT != 0 => {
                    let number = stream / 2;
                    // A publisher's stream and a subscriber's are never on one connection.
                    let is_item = kind & METADATA != 0;
                    event(if is_item {
                        Event::Item { subscriber: number, frame }
                    } else {
                        Event::Answer { number }
                    });
                }
                KEEPALIVE if kind & RESPOND != 0 => {
                    put_u24(reply, len);
                    reply.extend_from_slice(&[0, 0, 0, 0, (KEEPALIVE << 2) as u8, 0]);
                    reply.extend_from_slice(&frame[HEADER..]);
                }
                ERROR => {
                    let text = String::from_utf8_lossy(frame.get(HEADER + 4..).unwrap_or_default());
                    return Err(format!("the server says: {text}").into());
                }
                _ => {}
            }
        }
        Ok(taken)
    }

    #[inline]
    fn data(frame: &[u8]) -> &[u8] {
        match frame.get(HEADER..) {
            Some(&[a, b, c, ref rest @ ..]) => {
                let len = u32::from_be_bytes([0, a, b, c]) as usize;
                rest.get(len..).unwrap_or_default()
            }
            _ => &[],
        }
    }
}

/// A request that a server of these frames is sent.
pub(super) enum Asked<'a> {
    Items { stream: u32 },
    Publish { stream: u32, data: &'a [u8] },
}

/// Takes the whole requests that these bytes begin with, as a server does; how many bytes they are.
pub(super) fn asked(bytes: &[u8], mut see: impl FnMut(Asked<'_>)) -> usize {
    let mut taken = 0;
    while let Some(&[a, b, c, d, e, f, g, h, i]) = bytes[taken..].first_chunk() {
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        let begin = taken + PREFIX;
        let Some(frame) = bytes.get(begin..begin + len) else { break };
        taken = begin + len;
        let stream = u32::from_be_bytes([d, e, f, g]);
        match u16::from_be_bytes([h, i]) & !0x3ff {
            REQUEST_STREAM => see(Asked::Items { stream }),
            REQUEST_RESPONSE => see(Asked::Publish { stream, data: Rsocket::data(frame) }),
            _ => {}
        }
    }
    taken
}

/// Writes an item as `rsock` does, with metadata of the same length.
pub(super) fn put_item(out: &mut Vec<u8>, stream: u32, offset: u64, data: &[u8]) {
    frame(out, stream, PAYLOAD << 10 | METADATA | NEXT, |out| {
        let json = format!(
            r#"{{"topic":"room.lobby","epoch":"9f3c1a7be2d04411","offset":{offset},"time":1764417433123}}"#
        );
        put_u24(out, 4 + json.len());
        out.push(JSON);
        put_u24(out, json.len());
        out.extend_from_slice(json.as_bytes());
        out.extend_from_slice(data);
    });
}

/// Writes the answer to a publish.
pub(super) fn put_answer(out: &mut Vec<u8>, stream: u32, offset: u64) {
    frame(out, stream, PAYLOAD << 10 | NEXT | COMPLETE, |out| {
        let json =
            format!(r#"{{"topic":"room.lobby","epoch":"9f3c1a7be2d04411","offset":{offset}}}"#);
        out.extend_from_slice(json.as_bytes());
    });
}

/// Gives these whole frames to a stream.
pub(super) fn set_streams(mut frames: &mut [u8], stream: u32) {
    while let Some((&mut [a, b, c], rest)) = frames.split_first_chunk_mut() {
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        let (frame, after) = rest.split_at_mut(len);
        frame[..4].copy_from_slice(&stream.to_be_bytes());
        frames = after;
    }
}

/// NATS: subjects of its core, without acknowledgements.
pub(super) struct Nats;

impl Wire for Nats {
    const ACKNOWLEDGES: bool = false;
    const ANSWERS_EACH: bool = false;

    fn hello(out: &mut Vec<u8>) {
        out.extend_from_slice(
            br#"CONNECT {"verbose":false,"pedantic":false,"lang":"none","version":"1"}"#,
        );
        out.extend_from_slice(b"\r\n");
    }

    fn subscribe(out: &mut Vec<u8>, topic: &str, subscriber: u32, _: From, _: u32) {
        out.extend_from_slice(format!("SUB {topic} {subscriber}\r\n").as_bytes());
    }

    fn subscribed(out: &mut Vec<u8>) {
        out.extend_from_slice(b"PING\r\n");
    }

    fn publish(out: &mut Vec<u8>, topic: &str, _: u32, data: &[u8]) {
        out.extend_from_slice(format!("PUB {topic} {}\r\n", data.len()).as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }

    #[inline]
    fn take(bytes: &[u8], reply: &mut Vec<u8>, mut event: impl FnMut(Event<'_>)) -> Result<usize> {
        let mut taken = 0;
        loop {
            let rest = &bytes[taken..];
            // Lines but for INFO are short; the end is looked for no further than it needs to be.
            let Some(end) = rest.iter().position(|&byte| byte == b'\n') else { return Ok(taken) };
            let line = rest[..end].strip_suffix(b"\r").unwrap_or(&rest[..end]);
            let mut len = end + 1;
            if let Some(line) = line.strip_prefix(b"MSG ") {
                let mut words = line.split(|&byte| byte == b' ').skip(1).map(decimal);
                let (Some(subscriber), Some(size)) = (words.next(), words.next()) else {
                    return Err("a MSG without its size".into());
                };
                len += size as usize + 2;
                let Some(frame) = rest.get(end + 1..len) else { return Ok(taken) };
                event(Event::Item { subscriber, frame });
            } else if line == b"PONG" {
                event(Event::Answer { number: 0 });
            } else if line == b"PING" {
                reply.extend_from_slice(b"PONG\r\n");
            } else if line.starts_with(b"-ERR") {
                return Err(format!("the server says: {}", String::from_utf8_lossy(line)).into());
            }
            taken += len;
        }
    }

    fn data(frame: &[u8]) -> &[u8] {
        frame.strip_suffix(b"\r\n").unwrap_or(frame)
    }
}

fn decimal(word: &[u8]) -> u32 {
    word.iter().fold(0, |number, &digit| 10 * number + u32::from(digit.wrapping_sub(b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number, and the data of an item.
    type Taken = (u32, Option<Vec<u8>>);

    fn taken<W: Wire>(bytes: &[u8]) -> (usize, Vec<Taken>) {
        let mut events = Vec::new();
        let taken = W::take(bytes, &mut Vec::new(), |event| {
            events.push(match event {
                Event::Item { subscriber, frame } => (subscriber, Some(W::data(frame).to_vec())),
                Event::Answer { number } => (number, None),
            });
        });
        (taken.expect("frames"), events)
    }

    #[test]
    fn frames_are_taken_whole_wherever_the_bytes_end() {
        let mut bytes = Vec::new();
        put_item(&mut bytes, 0, 7, b"data");
        set_streams(&mut bytes, stream_of(3));
        put_answer(&mut bytes, stream_of(4), 7);
        let all = [(3, Some(b"data".to_vec())), (4, None)];
        assert_eq!(taken::<Rsocket>(&bytes), (bytes.len(), all.to_vec()));
        for end in 0..bytes.len() {
            let (taken, events) = taken::<Rsocket>(&bytes[..end]);
            assert!(taken <= end && events == all[..events.len()]);
        }
        let bytes = b"MSG room.lobby 5 4\r\nda\na\r\nPONG\r\n";
        let all = [(5, Some(b"da\na".to_vec())), (0, None)];
        assert_eq!(taken::<Nats>(bytes), (bytes.len(), all.to_vec()));
        for end in 0..bytes.len() {
            let (taken, events) = taken::<Nats>(&bytes[..end]);
            assert!(taken <= end && events == all[..events.len()]);
        }
    }

    #[test]
    fn a_server_reads_what_a_client_says() {
        let mut bytes = Vec::new();
        Rsocket::hello(&mut bytes);
        Rsocket::subscribe(&mut bytes, "a.b", 2, From::New, UNLIMITED);
        let mut streams = Vec::new();
        let taken = asked(&bytes, |asked| match asked {
            Asked::Items { stream } => streams.push(stream),
            Asked::Publish { .. } => {}
        });
        assert_eq!((taken, streams), (bytes.len(), vec![5]));
        bytes.clear();
        Rsocket::publish(&mut bytes, "a.b", 9, b"hello");
        let mut published = Vec::new();
        asked(&bytes, |asked| {
            if let Asked::Publish { stream, data } = asked {
                published.push((stream, data.len()));
            }
        });
        // Its header has no credit, so its metadata are where an item has them.
        assert_eq!(published, [(19, 5)]);
    }
}
