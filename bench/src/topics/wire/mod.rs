//! The bytes that subscribers and publishers send and are sent, for a client that does nothing else.

mod nats;
mod rooms;
mod rsocket;
mod websocket;

use std::net::TcpStream;

use crate::{
    Result,
    frames::{PREFIX, frame_len, put_len},
};

pub(super) use nats::Nats;
pub(super) use rooms::{Bun, SocketIo};
pub(super) use rsocket::{Asked, Rsocket, asked, put_answer, put_item, set_streams};
pub(super) use websocket::WebSocket;

/// The place in a topic at which a subscriber begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    New,
    Start,
}

/// A frame that has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// An item of a subscriber, by its number on the connection; [`Wire::data`] reads it.
    Item { subscriber: u32, frame: &'a [u8] },
    /// The answer to a publish, by its number on the connection; or to what was asked last.
    Answer { number: u32 },
}

/// The credit that a subscriber gives with its request.
pub(crate) const UNLIMITED: u32 = 0x7fff_ffff;

/// A protocol, as far as topics need it.
pub(crate) trait Wire {
    /// Whether a publish is answered.
    const ACKNOWLEDGES: bool;
    /// Whether each subscription of a connection is answered by an item, or all of them once.
    const ANSWERS_EACH: bool;

    /// Comes before all else, on a socket that blocks; the bytes that have come behind it.
    fn greet(socket: &mut TcpStream) -> Result<Vec<u8>> {
        let _ = socket;
        Ok(Vec::new())
    }

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

/// The way in which frames of RSocket lie on a byte stream.
pub(crate) trait Framing {
    /// As for [`Wire::greet`].
    fn greet(socket: &mut TcpStream) -> Result<Vec<u8>>;

    /// Writes a frame.
    fn put(out: &mut Vec<u8>, frame: &[u8]);

    /// The frame that these bytes begin with, and the bytes it takes; none if it is not whole.
    fn first(bytes: &[u8]) -> Result<Option<(&[u8], usize)>>;
}

/// A u24 length before each frame.
pub(crate) struct Tcp;

impl Framing for Tcp {
    fn greet(_: &mut TcpStream) -> Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn put(out: &mut Vec<u8>, frame: &[u8]) {
        put_len(out, frame.len());
        out.extend_from_slice(frame);
    }

    #[inline]
    fn first(bytes: &[u8]) -> Result<Option<(&[u8], usize)>> {
        let Some(len) = frame_len(bytes) else { return Ok(None) };
        Ok(bytes.get(PREFIX..PREFIX + len).map(|frame| (frame, PREFIX + len)))
    }
}

#[cfg(test)]
mod tests {
    use super::{rsocket::stream_of, *};

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
        assert_eq!(taken::<Rsocket<Tcp>>(&bytes), (bytes.len(), all.to_vec()));
        for end in 0..bytes.len() {
            let (taken, events) = taken::<Rsocket<Tcp>>(&bytes[..end]);
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

    /// A message of WebSocket that a server writes, which has no mask.
    fn unmasked(kind: u8, message: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        websocket::put(&mut bytes, kind, message);
        let head = bytes.len() - message.len();
        bytes[1] &= 0x7f;
        bytes.drain(head - 4..head);
        bytes
    }

    #[test]
    fn messages_of_websocket_are_taken_whatever_their_length() {
        for len in [1, 125, 126, 300, 70_000] {
            let data = vec![b'x'; len];
            let bytes = [unmasked(websocket::BINARY, &data), unmasked(websocket::TEXT, b"joined")];
            let bytes = bytes.concat();
            assert_eq!(taken::<Bun>(&bytes), (bytes.len(), vec![(0, Some(data)), (0, None)]));
            for end in 0..bytes.len().min(400) {
                assert!(taken::<Bun>(&bytes[..end]).0 <= end);
            }
        }
        let mut frame = Vec::new();
        put_item(&mut frame, 7, 1, b"data");
        let bytes = unmasked(websocket::BINARY, &frame[PREFIX..]);
        let item = (3, Some(b"data".to_vec()));
        assert_eq!(taken::<Rsocket<WebSocket>>(&bytes), (bytes.len(), vec![item]));
        let bytes = [&b"0{}"[..], b"40{}", br#"430[null]"#, br#"42["say","hi"]"#]
            .map(|message| unmasked(websocket::TEXT, message));
        let all = vec![(0, None), (0, Some(b"hi".to_vec()))];
        assert_eq!(taken::<SocketIo>(&bytes.concat()).1, all);
        assert!(SocketIo::take(&unmasked(0x88, b""), &mut Vec::new(), |_| {}).is_err());
    }

    #[test]
    fn a_server_reads_what_a_client_says() {
        let mut bytes = Vec::new();
        Rsocket::<Tcp>::hello(&mut bytes);
        Rsocket::<Tcp>::subscribe(&mut bytes, "a.b", 2, From::New, UNLIMITED);
        let mut streams = Vec::new();
        let taken = asked(&bytes, |asked| match asked {
            Asked::Items { stream } => streams.push(stream),
            Asked::Publish { .. } => {}
        });
        assert_eq!((taken, streams), (bytes.len(), vec![5]));
        bytes.clear();
        Rsocket::<Tcp>::publish(&mut bytes, "a.b", 9, b"hello");
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
