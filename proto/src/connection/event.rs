//! Events, which a connection tells its driver.

use bytes::Bytes;

use crate::{
    error::{CloseReason, StreamError},
    frame::{Interaction, Lease, Resume, Setup},
    payload::Payload,
    stream::StreamKey,
};

/// An event, told in the order in which things happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A client asks for a connection: answer with `accept` or `reject`. No input is wanted until then.
    Setup(Box<Setup>),
    /// A client asks to take up a session: the owner of the session's connection gives it the
    /// transport (`accept_resume`, `hand_over`), or it is refused with `reject`. No input is wanted
    /// until then.
    Resume(Box<Resume>),
    /// The server has shown that it accepted SETUP (SETUP-23).
    Established,
    /// The peer opens a stream.
    Request {
        /// The stream.
        key: StreamKey,
        /// The interaction it asks for.
        interaction: Interaction,
        /// Its payload.
        payload: Payload,
        /// The peer's half of a channel is already complete (RC-07).
        complete: bool,
    },
    /// An item, or the answer to a request.
    Payload {
        /// The stream.
        key: StreamKey,
        /// The item.
        payload: Payload,
        /// It is the last; no `Completed` follows.
        complete: bool,
    },
    /// The peer has completed its half; for our fire-and-forget: the request is written.
    Completed {
        /// The stream.
        key: StreamKey,
    },
    /// The stream failed in both directions and is over.
    Failed {
        /// The stream.
        key: StreamKey,
        /// Why.
        error: StreamError,
    },
    /// The peer wants nothing more of us. If it asked, the stream is over; if we did, only our half is.
    Cancelled {
        /// The stream.
        key: StreamKey,
    },
    /// The peer granted credit where there was none, or where it is watched: a producer may go on.
    Credited {
        /// The stream.
        key: StreamKey,
    },
    /// The transport is lost, or of no use any more and to be dropped; the session goes on without
    /// it and waits for another (RESUME-28, KA-11).
    Suspended,
    /// The session goes on on a new transport (RESUME-13).
    Resumed,
    /// The peer allows so many requests from now on; waiting ones may be tried again (LEASE-06).
    Leased(Lease),
    /// METADATA_PUSH (MDP-02).
    MetadataPush(Bytes),
    /// A KEEPALIVE came back, or one we never sent (H106): the data tells.
    Pong(Bytes),
    /// The peer takes no more requests, and the connection ends when the streams that are open have
    /// ended (CONN-02): whatever is asked from here on fails for this reason.
    Draining(CloseReason),
    /// The connection is over, and with it every stream. Nothing follows.
    Closed(CloseReason),
}
