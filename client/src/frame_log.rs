//! `-vv`: a line a frame, with the credit left; `-vvv`: its bytes, too.

use std::{
    collections::{HashMap, HashSet},
    fmt::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use rsock::{
    Direction, FrameTap, Payload,
    frame::{Frame, PayloadFrame, Request, StreamId},
};

use rsock_cli::Count;

use crate::{entries, hex_dump, render::say};

/// Says every frame on stderr, with its bytes where they are wanted.
pub(crate) fn tap(metadata_mime: String, with_bytes: bool) -> FrameTap {
    let log = Mutex::new(FrameLog::new(metadata_mime, with_bytes));
    Arc::new(move |_, direction, frame| {
        let lines = log.lock().unwrap_or_else(PoisonError::into_inner).lines(direction, frame);
        lines.iter().for_each(say);
    })
}

/// The sum that the credit of one direction of a stream has come to.
#[derive(Clone, Copy, Default)]
struct Account {
    /// The most there has been at a time.
    of: u64,
    left: u64,
}

impl Account {
    fn grant(&mut self, n: u32) {
        self.left = self.left.saturating_add(n.into());
        self.of = self.of.max(self.left);
    }

    fn spend(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, ", {} of {} credit left", self.left, self.of)
    }
}

/// The credit of each stream that has any, by the direction in which its items go.
struct FrameLog {
    metadata_mime: String,
    with_bytes: bool,
    accounts: HashMap<(StreamId, bool), Account>,
    /// The streams in the middle of their fragments: the next ones' metadata are no metadata of
    /// their own.
    unfinished: HashSet<(StreamId, bool)>,
}

impl FrameLog {
    fn new(metadata_mime: String, with_bytes: bool) -> Self {
        let (accounts, unfinished) = (HashMap::new(), HashSet::new());
        Self { metadata_mime, with_bytes, accounts, unfinished }
    }

    fn lines(&mut self, direction: Direction, bytes: Bytes) -> Vec<String> {
        let arrow = if direction == Direction::Out { '→' } else { '←' };
        let mut line = format!("{arrow} ");
        let decoded = Frame::decode(bytes.clone());
        let dump = match &decoded {
            _ if !self.with_bytes => Vec::new(),
            Ok(frame) => {
                let is_fragment = self.is_in_fragments(direction, frame);
                let secrets = hex_dump::secrets(&bytes, frame, &self.metadata_mime, is_fragment);
                hex_dump::lines(&bytes, &secrets)
            }
            Err(_) => hex_dump::lines(&bytes, &[]),
        };
        // A String can always be written to.
        let _ = match &decoded {
            Ok(frame) => self.describe(&mut line, direction, frame),
            Err(malformed) => {
                write!(
                    line,
                    "{}, no frame: {}",
                    Count(bytes.len() as u64, "byte"),
                    malformed.violation
                )
            }
        };
        [vec![line], dump].concat()
    }

    /// Whether a frame goes on with what others have begun.
    fn is_in_fragments(&self, by: Direction, frame: &Frame) -> bool {
        let Frame::Payload(payload) = frame else { return false };
        self.unfinished.contains(&(payload.stream, by == Direction::Out))
    }

    fn describe(&mut self, line: &mut String, by: Direction, frame: &Frame) -> fmt::Result {
        let is_ours = by == Direction::Out;
        let note = match frame {
            Frame::Setup(setup) => self.said(&setup.payload),
            Frame::Request(request) => self.said(&request.payload),
            Frame::Payload(payload) if !self.is_in_fragments(by, frame) => {
                self.said(&payload.payload)
            }
            _ => String::new(),
        };
        write!(line, "{}", frame.annotated(&note))?;
        match frame {
            Frame::Request(request) => self.request(by, request),
            Frame::Payload(payload) => return self.payload(line, by, payload),
            Frame::RequestN { stream, n } => {
                // It pays for what comes the other way.
                let account = self.account(*stream, !is_ours);
                account.grant(*n);
                return write!(line, "{account}");
            }
            Frame::Cancel { stream } | Frame::Error { stream: Some(stream), .. } => {
                self.close(*stream);
            }
            _ => {}
        }
        Ok(())
    }

    fn request(&mut self, by: Direction, request: &Request) {
        let Request { stream, interaction, follows, initial_n, .. } = request;
        if interaction.has_initial_n() {
            self.account(*stream, by != Direction::Out).grant(*initial_n);
        }
        if *follows {
            self.unfinished.insert((*stream, by == Direction::Out));
        }
    }

    fn payload(&mut self, line: &mut String, by: Direction, frame: &PayloadFrame) -> fmt::Result {
        let PayloadFrame { stream, follows, next, complete, .. } = frame;
        let key = (*stream, by == Direction::Out);
        if *follows {
            self.unfinished.insert(key);
        } else {
            self.unfinished.remove(&key);
        }
        if let Some(account) = self.accounts.get_mut(&key) {
            // The fragments of an item cost what the item costs.
            if *next && !follows {
                account.spend();
            }
            if *next {
                write!(line, "{account}")?;
            }
            if *complete {
                self.accounts.remove(&key);
            }
        }
        Ok(())
    }

    /// The metadata, in words.
    fn said(&self, payload: &Payload) -> String {
        let metadata = payload.metadata.as_ref();
        metadata.map_or(String::new(), |all| entries::summary(all, &self.metadata_mime))
    }

    fn account(&mut self, stream: StreamId, outgoing: bool) -> &mut Account {
        self.accounts.entry((stream, outgoing)).or_default()
    }

    fn close(&mut self, stream: StreamId) {
        for outgoing in [false, true] {
            self.accounts.remove(&(stream, outgoing));
            self.unfinished.remove(&(stream, outgoing));
        }
    }
}

#[cfg(test)]
mod tests {
    use rsock::{
        frame::Interaction,
        metadata::mime::{AUTHENTICATION, ROUTING},
        proto::SendBuf,
    };

    use super::*;

    fn encoded(frame: Frame) -> Bytes {
        let mut buf = SendBuf::bare();
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        buf.set_tap(move |frame| sender.send(frame).unwrap());
        frame.encode(&mut buf);
        receiver.recv().unwrap()
    }

    #[test]
    fn a_stream_is_told_with_its_credit() {
        let stream = StreamId::new(1).unwrap();
        let item = |next, complete| {
            let payload = Payload::new(if next { "42" } else { "" });
            Frame::Payload(PayloadFrame { stream, follows: false, next, complete, payload })
        };
        let request = Frame::Request(Request {
            stream,
            interaction: Interaction::RequestStream,
            follows: false,
            complete: false,
            initial_n: 2,
            payload: Payload::new("{\"to\":3}").with_metadata("\x05range"),
        });
        let mut log = FrameLog::new(ROUTING.into(), false);
        let mut line = |direction, frame| log.lines(direction, encoded(frame)).concat();
        assert_eq!(
            line(Direction::Out, request),
            "→ REQUEST_STREAM stream=1 n=2 route=range 8 B + 6 B metadata"
        );
        assert_eq!(
            line(Direction::In, item(true, false)),
            "← PAYLOAD stream=1 [N] 2 B, 1 of 2 credit left"
        );
        assert_eq!(
            line(Direction::Out, Frame::RequestN { stream, n: 1 }),
            "→ REQUEST_N stream=1 n=1, 2 of 2 credit left"
        );
        assert_eq!(
            line(Direction::In, item(true, true)),
            "← PAYLOAD stream=1 [NC] 2 B, 1 of 2 credit left"
        );
        assert_eq!(line(Direction::In, item(false, true)), "← PAYLOAD stream=1 [C] 0 B");
        assert_eq!(line(Direction::In, Frame::Cancel { stream }), "← CANCEL stream=1");
    }

    /// A token cut in two is no type with a name.
    #[test]
    fn metadata_are_told_where_they_begin_and_not_in_their_middle() {
        let stream = StreamId::new(1).unwrap();
        let (start, rest) = ("\x07x/custom\0", "\x05secret");
        let request = Frame::Request(Request {
            stream,
            interaction: Interaction::RequestResponse,
            follows: true,
            complete: false,
            initial_n: 0,
            payload: Payload::default().with_metadata(start),
        });
        let more = |follows| {
            let payload = Payload::default().with_metadata(rest);
            Frame::Payload(PayloadFrame { stream, follows, next: true, complete: false, payload })
        };
        let mut log = FrameLog::new(AUTHENTICATION.into(), false);
        let mut line = |frame| log.lines(Direction::Out, encoded(frame)).concat();
        let told = [line(request), line(more(true)), line(more(false)), line(more(false))];
        assert_eq!(told[0], "→ REQUEST_RESPONSE stream=1 [F] auth=x/custom 0 B + 10 B metadata");
        assert_eq!(told[1], "→ PAYLOAD stream=1 [FN] 0 B + 7 B metadata");
        assert_eq!(told[2], "→ PAYLOAD stream=1 [N] 0 B + 7 B metadata");
        // What begins anew is.
        assert_eq!(told[3], "→ PAYLOAD stream=1 [N] auth=secret 0 B + 7 B metadata");
    }

    #[test]
    fn bytes_that_are_no_frame_are_told_too() {
        let mut log = FrameLog::new(ROUTING.into(), false);
        let lines = log.lines(Direction::In, Bytes::from_static(b"abc"));
        assert_eq!(lines, ["← 3 bytes, no frame: a frame of 3 bytes; a frame header has 6"]);
    }
}
