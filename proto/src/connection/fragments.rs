//! The first payload of ours that left in fragments: some peers cannot take any, and end the connection.

use std::fmt;

use crate::{
    connection::{Connection, Streams},
    error::{CloseReason, ErrorCode},
    stats::Stats,
    stream::StreamKey,
};

/// The code with which browsers close the WebSockets of a page that is left (RFC 6455, section 7.4.1).
const GOING_AWAY: u16 = 1001;

/// A payload that left in fragments, behind which the peer ended the connection without another frame.
///
/// It may be one of those that cannot take fragments: see
/// [`fragment_bytes`](crate::Config::fragment_bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fragmented {
    /// Frames of it that were written.
    pub fragments: u32,
    /// Bytes of the longest of them, at most.
    pub frame_bytes: usize,
    /// It is a request of ours; an answer or an item otherwise.
    pub is_request: bool,
    /// Its stream had not ended: more was to come, from one side or the other.
    pub is_pending: bool,
}

/// A clause of what happened, as "a request had left in 3 fragments of at most 65536 bytes".
impl fmt::Display for Fragmented {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fragments, frame_bytes, is_request, .. } = self;
        let payload = if *is_request { "a request" } else { "an answer or item" };
        write!(f, "{payload} had left in {fragments} fragment")?;
        f.write_str(if *fragments == 1 { "" } else { "s" })?;
        write!(f, " of at most {frame_bytes} bytes")
    }
}

/// The first fragments, as they are remembered until the end. A peer from which anything comes behind
/// them has taken them, or is not known not to have.
#[derive(Debug)]
pub(super) struct FirstFragments {
    key: StreamKey,
    /// Frames that had come before.
    frames_in: u64,
    fragmented: Fragmented,
    /// The answer to a KEEPALIVE has come behind them, and is not counted.
    has_crossed: bool,
    /// The connection has ended right behind them.
    is_last: bool,
}

impl FirstFragments {
    /// Of this stream, of which no fragment has been counted. Few connections have any.
    #[cold]
    pub(super) fn new(
        key: StreamKey,
        is_request: bool,
        frame_bytes: usize,
        stats: &Stats,
    ) -> Box<Self> {
        let fragmented = Fragmented { fragments: 0, frame_bytes, is_request, is_pending: true };
        let frames_in = stats.frames_in;
        Box::new(Self { key, frames_in, fragmented, has_crossed: false, is_last: false })
    }

    /// The last frame of this stream was a fragment.
    pub(super) fn count(&mut self, key: StreamKey) {
        if self.key == key {
            self.fragmented.fragments = self.fragmented.fragments.saturating_add(1);
        }
    }

    /// The peer has answered a KEEPALIVE. One such answer may have crossed them: a client that reconnects
    /// asks for it right behind SETUP.
    pub(super) fn answered_keepalive(&mut self) {
        if !self.has_crossed {
            self.has_crossed = true;
            self.frames_in += 1;
        }
    }

    /// The connection ends for this reason, and its streams with it.
    pub(super) fn end(&mut self, reason: &CloseReason, streams: &Streams, stats: &Stats) {
        self.fragmented.is_pending = streams.get(self.key).is_some();
        let since = stats.frames_in - self.frames_in;
        self.is_last = match reason {
            CloseReason::Disconnected | CloseReason::ClosedAfterSetup | CloseReason::Io(_) => {
                since == 0
            }
            // Whose page was left did not mind what came.
            CloseReason::WebSocketClosed { code, .. } => since == 0 && *code != GOING_AWAY,
            // The ERROR itself is a frame.
            CloseReason::Error { code, .. } => {
                since == 1 && !code.is_setup() && *code != ErrorCode::CONNECTION_CLOSE
            }
            CloseReason::Violation(_)
            | CloseReason::Finished(_)
            | CloseReason::ResumeWindowOver => false,
        };
    }
}

impl Connection {
    /// The payload in fragments behind which the peer has ended the connection, if it is so that it
    /// ended.
    pub fn ended_behind(&self) -> Option<Fragmented> {
        let first = self.first_fragments.as_deref()?;
        first.is_last.then_some(first.fragmented)
    }
}
