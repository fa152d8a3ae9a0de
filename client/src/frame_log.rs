//! `-vv`: a line a frame, with the credit left.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    fmt::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use rsock::{
    Direction, FrameTap, Payload,
    frame::{Frame, PayloadFrame, Request, StreamId},
};

use crate::{entries, render::say};

/// Says every frame on stderr.
pub(crate) fn tap(metadata_mime: String) -> FrameTap {
    let log = Mutex::new(FrameLog::new(metadata_mime));
    Arc::new(move |_, direction, frame| {
        let line = log.lock().unwrap_or_else(PoisonError::into_inner).line(direction, frame);
        say(line);
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
    accounts: HashMap<(StreamId, bool), Account>,
    /// The streams in the middle of their fragments: the next ones' metadata are no metadata of
    /// their own.
    unfinished: HashSet<(StreamId, bool)>,
}

impl FrameLog {
    fn new(metadata_mime: String) -> Self {
        Self { metadata_mime, accounts: HashMap::new(), unfinished: HashSet::new() }
    }

    fn line(&mut self, direction: Direction, frame: Bytes) -> String {
        let arrow = if direction == Direction::Out { '→' } else { '←' };
        let len = frame.len();
        let mut line = format!("{arrow} ");
        // A String can always be written to.
        let _ = match Frame::decode(frame) {
            Ok(frame) => self.describe(&mut line, direction, &frame),
            Err(malformed) => write!(line, "{len} B, no frame: {}", malformed.violation),
        };
        line
    }

    fn describe(&mut self, line: &mut String, direction: Direction, frame: &Frame) -> fmt::Result {
        match frame {
            Frame::Setup(setup) => write!(
                line,
                "SETUP version={}.{} keepalive={}ms/{}ms metadata={} data={}{}{}{} {}",
                setup.version.0,
                setup.version.1,
                setup.keepalive_interval_ms,
                setup.max_lifetime_ms,
                text(&setup.metadata_mime),
                text(&setup.data_mime),
                if setup.resume_token.is_some() { " resume" } else { "" },
                if setup.lease { " lease" } else { "" },
                self.said(&setup.payload),
                Size(&setup.payload),
            ),
            Frame::Request(request) => self.request(line, direction, request),
            Frame::RequestN { stream, n } => {
                // It pays for what comes the other way.
                let account = self.account(*stream, direction != Direction::Out);
                account.grant(*n);
                let left = *account;
                write!(line, "REQUEST_N stream={stream} n={n}{left}")
            }
            Frame::Payload(payload) => self.payload(line, direction, payload),
            Frame::Cancel { stream } => {
                self.close(*stream);
                write!(line, "CANCEL stream={stream}")
            }
            Frame::Error { stream, code, message } => {
                let on = stream.map_or(0, StreamId::get);
                stream.map(|stream| self.close(stream));
                write!(line, "ERROR stream={on} {code}: {}", text(message))
            }
            Frame::KeepAlive(keepalive) => {
                let respond = if keepalive.respond { " [R]" } else { "" };
                let (position, bytes) = (keepalive.position, keepalive.data.len());
                write!(line, "KEEPALIVE{respond} position={position} {bytes} B")
            }
            Frame::MetadataPush { metadata } => {
                write!(line, "METADATA_PUSH {} B", metadata.len())
            }
            Frame::Lease(lease) => {
                write!(line, "LEASE ttl={}ms requests={}", lease.ttl_ms, lease.requests)
            }
            Frame::Resume(resume) => write!(
                line,
                "RESUME received={} available={}",
                resume.last_received_server_position, resume.first_available_client_position
            ),
            Frame::ResumeOk { last_received_client_position } => {
                write!(line, "RESUME_OK received={last_received_client_position}")
            }
            Frame::Ext(ext) => {
                let on = ext.stream.map_or(0, StreamId::get);
                write!(line, "EXT stream={on} type=0x{:08x}", ext.extended_type)
            }
            Frame::Unknown { frame_type, .. } => write!(line, "unknown frame 0x{frame_type:02x}"),
            Frame::Misplaced { frame_type, stream_id } => {
                write!(line, "{} stream={stream_id}, where it has no meaning", frame_type.name())
            }
            // Frames of a later protocol engine.
            _ => write!(line, "{frame:?}"),
        }
    }

    fn request(&mut self, line: &mut String, by: Direction, request: &Request) -> fmt::Result {
        let Request { stream, interaction, .. } = request;
        write!(line, "{} stream={stream}", interaction.frame_type().name())?;
        let flags = [(request.follows, 'F'), (request.complete, 'C')];
        write_flags(line, &flags)?;
        if interaction.has_initial_n() {
            self.account(*stream, by != Direction::Out).grant(request.initial_n);
            write!(line, " n={}", request.initial_n)?;
        }
        let payload = &request.payload;
        if request.follows {
            self.unfinished.insert((*stream, by == Direction::Out));
        }
        write!(line, "{} {}", self.said(payload), Size(payload))
    }

    fn payload(&mut self, line: &mut String, by: Direction, frame: &PayloadFrame) -> fmt::Result {
        let PayloadFrame { stream, follows, next, complete, payload } = frame;
        write!(line, "PAYLOAD stream={stream}")?;
        write_flags(line, &[(*follows, 'F'), (*next, 'N'), (*complete, 'C')])?;
        let key = (*stream, by == Direction::Out);
        let continues = self.unfinished.contains(&key);
        if *follows {
            self.unfinished.insert(key);
        } else {
            self.unfinished.remove(&key);
        }
        if !continues {
            line.push_str(&self.said(payload));
        }
        write!(line, " {}", Size(payload))?;
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

fn write_flags(line: &mut String, flags: &[(bool, char)]) -> fmt::Result {
    let set: String = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| flag).collect();
    if set.is_empty() { Ok(()) } else { write!(line, " [{set}]") }
}

fn text(bytes: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}

/// The sizes of a payload: data, and what else is in the metadata, may be a secret.
struct Size<'a>(&'a Payload);

impl fmt::Display for Size<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.0.data.len())?;
        match &self.0.metadata {
            Some(metadata) => write!(f, " + {} B metadata", metadata.len()),
            None => Ok(()),
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
        let mut log = FrameLog::new(ROUTING.into());
        let mut line = |direction, frame| log.line(direction, encoded(frame));
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
        let mut log = FrameLog::new(AUTHENTICATION.into());
        let mut line = |frame| log.line(Direction::Out, encoded(frame));
        let told = [line(request), line(more(true)), line(more(false)), line(more(false))];
        assert_eq!(told[0], "→ REQUEST_RESPONSE stream=1 [F] auth=x/custom 0 B + 10 B metadata");
        assert_eq!(told[1], "→ PAYLOAD stream=1 [FN] 0 B + 7 B metadata");
        assert_eq!(told[2], "→ PAYLOAD stream=1 [N] 0 B + 7 B metadata");
        // What begins anew is.
        assert_eq!(told[3], "→ PAYLOAD stream=1 [N] auth=secret 0 B + 7 B metadata");
    }

    #[test]
    fn bytes_that_are_no_frame_are_told_too() {
        let mut log = FrameLog::new(ROUTING.into());
        let line = log.line(Direction::In, Bytes::from_static(b"abc"));
        assert_eq!(line, "← 3 B, no frame: a frame of 3 bytes; a frame header has 6");
    }
}
