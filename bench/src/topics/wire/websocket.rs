//! Messages of WebSocket, as a client writes and reads them that does no more than it must.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use super::Framing;
use crate::Result;

pub(super) const TEXT: u8 = 0x81;
pub(super) const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;
const MASKED: u8 = 0x80;
/// A length that stands behind this one, in two bytes or in eight.
const TWO_BYTES: u8 = 126;
const EIGHT_BYTES: u8 = 127;

/// Each frame of RSocket in a binary message.
pub(crate) struct WebSocket;

impl Framing for WebSocket {
    fn greet(socket: &mut TcpStream) -> Result<Vec<u8>> {
        upgrade(socket, "/")
    }

    fn put(out: &mut Vec<u8>, frame: &[u8]) {
        put(out, BINARY, frame);
    }

    #[inline]
    fn first(bytes: &[u8]) -> Result<Option<(&[u8], usize)>> {
        let Some((kind, message, len)) = first(bytes)? else { return Ok(None) };
        Ok(Some((if kind == BINARY { message } else { &[] }, len)))
    }
}

/// Asks for WebSocket at this path; the bytes that have come behind the answer.
pub(super) fn upgrade(socket: &mut TcpStream, path: &str) -> Result<Vec<u8>> {
    let address = socket.peer_addr()?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    socket.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        let read = socket.read(&mut buffer)?;
        answer.extend_from_slice(&buffer[..read]);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        match end {
            Some(end) if answer.starts_with(b"HTTP/1.1 101 ") => {
                return Ok(answer.split_off(end + 4));
            }
            None if read > 0 => {}
            _ => {
                let said = String::from_utf8_lossy(&answer);
                return Err(format!("the server does not speak WebSocket: {said:?}").into());
            }
        }
    }
}

/// Writes a message. Its mask, which it has to have, changes nothing.
pub(super) fn put(out: &mut Vec<u8>, kind: u8, message: &[u8]) {
    out.push(kind);
    match u16::try_from(message.len()) {
        Ok(len) if len < u16::from(TWO_BYTES) => out.push(MASKED | len as u8),
        Ok(len) => {
            out.push(MASKED | TWO_BYTES);
            out.extend_from_slice(&len.to_be_bytes());
        }
        Err(_) => {
            out.push(MASKED | EIGHT_BYTES);
            out.extend_from_slice(&(message.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(message);
}

/// A message: its first byte, what it holds, and the bytes it takes.
type Message<'a> = (u8, &'a [u8], usize);

/// The message that these bytes begin with; none if it is not whole.
#[inline]
pub(super) fn first(bytes: &[u8]) -> Result<Option<Message<'_>>> {
    let (kind, begin, len) = match *bytes {
        [kind, TWO_BYTES, a, b, ..] => (kind, 4, usize::from(u16::from_be_bytes([a, b]))),
        [kind, EIGHT_BYTES, _, _, _, _, a, b, c, d, ..] => {
            (kind, 10, u32::from_be_bytes([a, b, c, d]) as usize)
        }
        [kind, len, ..] if len < TWO_BYTES => (kind, 2, usize::from(len)),
        _ => return Ok(None),
    };
    match kind {
        TEXT | BINARY | PING | PONG => {}
        CLOSE => return Err("the server ends the connection".into()),
        _ => return Err(format!("a WebSocket frame that begins with {kind:#x}").into()),
    }
    Ok(bytes.get(begin..begin + len).map(|message| (kind, message, begin + len)))
}

/// The answer to a message of WebSocket's own, if it wants one.
pub(super) fn answer(reply: &mut Vec<u8>, kind: u8, message: &[u8]) {
    if kind == PING {
        put(reply, PONG, message);
    }
}
