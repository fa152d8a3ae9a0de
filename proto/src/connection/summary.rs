//! Streams as they are at a moment, for whoever looks at a connection.

use crate::{
    connection::Connection,
    error::Side,
    frame::Interaction,
    stream::{Stream, StreamKey},
};

/// A stream of a connection, as it is at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamSummary {
    /// The stream.
    pub key: StreamKey,
    /// The interaction that opened it.
    pub interaction: Interaction,
    /// The side that asked.
    pub by: Side,
    /// Items the peer has asked for in all: one where it asked for an answer.
    pub granted: u64,
    /// Items of these that there were.
    pub sent: u64,
    /// Items we have asked for that have not come.
    pub awaited: u64,
    /// There is something that waits to be written.
    pub has_unsent: bool,
}

impl StreamSummary {
    pub(super) fn of(key: StreamKey, stream: &Stream) -> Self {
        let granted = stream.granted();
        Self {
            key,
            interaction: stream.interaction,
            by: if stream.requester { Side::Local } else { Side::Peer },
            granted,
            sent: granted.saturating_sub(stream.credit()),
            awaited: stream.awaited(),
            has_unsent: stream.has_data(),
        }
    }
}

impl Connection {
    /// The streams there are, of both sides, in no order. It takes as long as there have been streams at once.
    pub fn each_stream(&self) -> impl Iterator<Item = StreamSummary> + '_ {
        self.streams.each().map(|(key, stream)| StreamSummary::of(key, stream))
    }
}
