//! The frames of NATS.

use super::{Event, From, Wire};
use crate::Result;

/// NATS: subjects of its core, without acknowledgements.
pub(crate) struct Nats;

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
