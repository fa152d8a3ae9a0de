//! Rooms over WebSocket, in which all hear what one says: those of Socket.IO, and the pub/sub of Bun. The programs
//! of their servers are in `bench/peers/`.

use std::net::TcpStream;

use super::{
    Event, From, Wire,
    websocket::{self, BINARY, TEXT},
};
use crate::Result;

/// Socket.IO 4, of which each message is an event with a string.
pub(crate) struct SocketIo;

const SAY: &[u8] = br#"42["say",""#;
const END: &[u8] = br#""]"#;

impl Wire for SocketIo {
    const ACKNOWLEDGES: bool = false;
    const ANSWERS_EACH: bool = true;

    fn greet(socket: &mut TcpStream) -> Result<Vec<u8>> {
        websocket::upgrade(socket, "/socket.io/?EIO=4&transport=websocket")
    }

    fn hello(out: &mut Vec<u8>) {
        websocket::put(out, TEXT, b"40");
    }

    fn subscribe(out: &mut Vec<u8>, _: &str, _: u32, _: From, _: u32) {
        // It is answered by its number.
        websocket::put(out, TEXT, br#"420["join"]"#);
    }

    fn publish(out: &mut Vec<u8>, _: &str, _: u32, data: &[u8]) {
        websocket::put(out, TEXT, &[SAY, data, END].concat());
    }

    #[inline]
    fn take(bytes: &[u8], reply: &mut Vec<u8>, mut event: impl FnMut(Event<'_>)) -> Result<usize> {
        let mut taken = 0;
        while let Some((kind, frame, len)) = websocket::first(&bytes[taken..])? {
            taken += len;
            match frame {
                [b'4', b'2', ..] => event(Event::Item { subscriber: 0, frame }),
                [b'4', b'3', ..] => event(Event::Answer { number: 0 }),
                [b'4', b'4', ..] => {
                    let text = String::from_utf8_lossy(frame);
                    return Err(format!("the server says: {text}").into());
                }
                b"2" => websocket::put(reply, TEXT, b"3"),
                _ => websocket::answer(reply, kind, frame),
            }
        }
        Ok(taken)
    }

    fn data(frame: &[u8]) -> &[u8] {
        let data = frame.strip_prefix(SAY).and_then(|frame| frame.strip_suffix(END));
        data.unwrap_or_default()
    }
}

/// Messages of µWebSockets' topics, as Bun has them: bytes are said, text joins.
pub(crate) struct Bun;

impl Wire for Bun {
    const ACKNOWLEDGES: bool = false;
    const ANSWERS_EACH: bool = true;

    fn greet(socket: &mut TcpStream) -> Result<Vec<u8>> {
        websocket::upgrade(socket, "/")
    }

    fn hello(_: &mut Vec<u8>) {}

    fn subscribe(out: &mut Vec<u8>, _: &str, _: u32, _: From, _: u32) {
        websocket::put(out, TEXT, b"join");
    }

    fn publish(out: &mut Vec<u8>, _: &str, _: u32, data: &[u8]) {
        websocket::put(out, BINARY, data);
    }

    #[inline]
    fn take(bytes: &[u8], reply: &mut Vec<u8>, mut event: impl FnMut(Event<'_>)) -> Result<usize> {
        let mut taken = 0;
        while let Some((kind, frame, len)) = websocket::first(&bytes[taken..])? {
            taken += len;
            match kind {
                BINARY => event(Event::Item { subscriber: 0, frame }),
                TEXT => event(Event::Answer { number: 0 }),
                _ => websocket::answer(reply, kind, frame),
            }
        }
        Ok(taken)
    }

    fn data(frame: &[u8]) -> &[u8] {
        frame
    }
}
