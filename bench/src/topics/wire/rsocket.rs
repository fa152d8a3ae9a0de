//! The frames of RSocket.

use std::{marker::PhantomData, net::TcpStream};

use super::{Event, Framing, From, Tcp, Wire};
use crate::{Result, frames::put_len};

/// RSocket: routes in composite metadata, as `rsockd` serves topics.
pub(crate) struct Rsocket<F>(PhantomData<F>);

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
/// Bytes that stand before a frame's body.
const HEADER: usize = 6;
const COMPOSITE: &[u8] = b"message/x.rsocket.composite-metadata.v0";
/// The id of `message/x.rsocket.routing.v0`, with the bit that says that it is one.
const ROUTING: u8 = 0xfe;
/// The same of `application/json`.
const JSON: u8 = 0x85;
/// Longer than any measurement.
const NEVER_MS: u32 = 3_600_000;

/// Writes a frame.
fn frame<F: Framing>(out: &mut Vec<u8>, stream: u32, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let mut frame = Vec::with_capacity(512);
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&kind.to_be_bytes());
    body(&mut frame);
    F::put(out, &frame);
}

fn put_route(out: &mut Vec<u8>, topic: &str) {
    let route = format!("topic.{topic}");
    put_len(out, 1 + 3 + 1 + route.len());
    out.push(ROUTING);
    put_len(out, 1 + route.len());
    // Names of ours are short.
    out.push(route.len() as u8);
    out.extend_from_slice(route.as_bytes());
}

pub(super) fn stream_of(number: u32) -> u32 {
    2 * number + 1
}

impl<F: Framing> Wire for Rsocket<F> {
    const ACKNOWLEDGES: bool = true;
    const ANSWERS_EACH: bool = true;

    fn greet(socket: &mut TcpStream) -> Result<Vec<u8>> {
        F::greet(socket)
    }

    fn hello(out: &mut Vec<u8>) {
        frame::<F>(out, 0, SETUP, |out| {
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
        frame::<F>(out, stream_of(subscriber), REQUEST_STREAM | METADATA, |out| {
            out.extend_from_slice(&credit.to_be_bytes());
            put_route(out, topic);
            out.extend_from_slice(match from {
                From::New => br#"{"start":true}"#,
                From::Start => br#"{"start":true,"from":"start"}"#,
            });
        });
    }

    fn publish(out: &mut Vec<u8>, topic: &str, number: u32, data: &[u8]) {
        frame::<F>(out, stream_of(number), REQUEST_RESPONSE | METADATA, |out| {
            put_route(out, topic);
            out.extend_from_slice(data);
        });
    }

    #[inline]
    fn take(bytes: &[u8], reply: &mut Vec<u8>, mut event: impl FnMut(Event<'_>)) -> Result<usize> {
        let mut taken = 0;
        while let Some((frame, len)) = F::first(&bytes[taken..])? {
            taken += len;
            // What is no frame is the framing's own.
            let Some(&[d, e, f, g, h, i]) = frame.first_chunk() else { continue };
            let stream = u32::from_be_bytes([d, e, f, g]);
            let kind = u16::from_be_bytes([h, i]);
            match kind >> 10 {
                PAYLOAD if kind & NEXT != 0 => {
                    let number = stream / 2;
                    // An answer has no metadata.
                    let is_item = kind & METADATA != 0;
                    event(if is_item {
                        Event::Item { subscriber: number, frame }
                    } else {
                        Event::Answer { number }
                    });
                }
                KEEPALIVE if kind & RESPOND != 0 => {
                    let head = [0, 0, 0, 0, (KEEPALIVE << 2) as u8, 0];
                    F::put(reply, &[&head, &frame[HEADER..]].concat());
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
        data_of(frame)
    }
}

/// The data of a frame with metadata and nothing before them.
#[inline]
fn data_of(frame: &[u8]) -> &[u8] {
    match frame.get(HEADER..) {
        Some(&[a, b, c, ref rest @ ..]) => {
            let len = u32::from_be_bytes([0, a, b, c]) as usize;
            rest.get(len..).unwrap_or_default()
        }
        _ => &[],
    }
}

/// A request that a server of these frames is sent.
pub(crate) enum Asked<'a> {
    Items { stream: u32 },
    Publish { stream: u32, data: &'a [u8] },
}

/// Takes the whole requests that these bytes begin with, as a server does; how many bytes they are.
pub(crate) fn asked(bytes: &[u8], mut see: impl FnMut(Asked<'_>)) -> usize {
    let mut taken = 0;
    // Its prefix can be read whatever it says.
    while let Ok(Some((frame, len))) = Tcp::first(&bytes[taken..]) {
        taken += len;
        let Some(&[d, e, f, g, h, i]) = frame.first_chunk() else { continue };
        let stream = u32::from_be_bytes([d, e, f, g]);
        match u16::from_be_bytes([h, i]) & !0x3ff {
            REQUEST_STREAM => see(Asked::Items { stream }),
            REQUEST_RESPONSE => see(Asked::Publish { stream, data: data_of(frame) }),
            _ => {}
        }
    }
    taken
}

/// Writes an item as `rsock` does, with metadata of the same length.
pub(crate) fn put_item(out: &mut Vec<u8>, stream: u32, offset: u64, data: &[u8]) {
    frame::<Tcp>(out, stream, PAYLOAD << 10 | METADATA | NEXT, |out| {
        let json = format!(
            r#"{{"topic":"room.lobby","epoch":"9f3c1a7be2d04411","offset":{offset},"time":1764417433123}}"#
        );
        put_len(out, 4 + json.len());
        out.push(JSON);
        put_len(out, json.len());
        out.extend_from_slice(json.as_bytes());
        out.extend_from_slice(data);
    });
}

/// Writes the answer to a publish.
pub(crate) fn put_answer(out: &mut Vec<u8>, stream: u32, offset: u64) {
    frame::<Tcp>(out, stream, PAYLOAD << 10 | NEXT | COMPLETE, |out| {
        let json =
            format!(r#"{{"topic":"room.lobby","epoch":"9f3c1a7be2d04411","offset":{offset}}}"#);
        out.extend_from_slice(json.as_bytes());
    });
}

/// Gives these whole frames to a stream.
pub(crate) fn set_streams(mut frames: &mut [u8], stream: u32) {
    while let Some((&mut [a, b, c], rest)) = frames.split_first_chunk_mut() {
        let len = u32::from_be_bytes([0, a, b, c]) as usize;
        let (frame, after) = rest.split_at_mut(len);
        frame[..4].copy_from_slice(&stream.to_be_bytes());
        frames = after;
    }
}
