//! Every limit of a connection, with its default and its reason.

use std::time::Duration;

/// The largest frame the protocol can express, in bytes without the transport's prefix (FRAME-02).
pub const MAX_FRAME_BYTES: usize = 0xFF_FFFF;

/// Limits of one connection. All of them bound what a peer can make us hold.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The largest frame accepted, in bytes. A longer one ends the connection at its prefix (TCP-05).
    ///
    /// Default [`MAX_FRAME_BYTES`]: peers that do not fragment send frames of that size.
    pub max_frame_bytes: usize,
    /// The largest SETUP or RESUME accepted, in bytes: what somebody may make us hold before an
    /// acceptor has heard of him. Default 128 KiB, which
    /// holds the longest token beside credentials; at most [`max_frame_bytes`](Self::max_frame_bytes).
    pub max_setup_bytes: usize,
    /// Streams the peer may hold open, running fire-and-forget handlers included (DOS-02).
    ///
    /// Default 4,096. Beyond, requests get ERROR\[REJECTED\] and fire-and-forget is dropped.
    pub max_streams: usize,
    /// Bytes of payload that the peer's open requests may hold together. Default 256 MiB.
    ///
    /// A request beyond it gets ERROR\[REJECTED\].
    pub max_request_bytes: usize,
    /// Answers we owe while the peer does not read: KEEPALIVE replies, and refusals of requests.
    /// Default 1,024.
    ///
    /// Beyond, KEEPALIVE replies are dropped (KA-15). While as many refusals wait, nothing more is
    /// read.
    pub max_queued_replies: usize,
    /// Bytes of KEEPALIVE replies that may wait. One reply may always wait, however large. Default 64 KiB.
    pub max_queued_reply_bytes: usize,
    /// Bytes kept of the text of an ERROR that the peer sends, where it is longer; the rest is dropped
    /// unread, and a `…` stands in its place. Default 1 KiB.
    pub max_error_text_bytes: usize,
    /// How long a client may take to send SETUP, and an acceptor to answer it (SETUP-30); with
    /// reconnecting, how long the next server may take to show that it takes the connection. Default 10 s.
    pub setup_timeout: Duration,
    /// How long a frame, or a payload in fragments, may be incomplete without at least 1 KiB more of it
    /// having arrived. Default 30 s.
    ///
    /// A frame that stands still for so long ends the connection, a payload its stream: with
    /// ERROR\[CANCELED\] or CANCEL. It may take twice as long until it is noticed.
    pub part_timeout: Duration,
    /// The longest time without a sign of life that is tolerated, whatever max lifetime SETUP asks for
    /// (KA-10). Default 10 min.
    pub max_lifetime: Duration,
    /// Bytes a stream may write before the next stream's turn. Default 16 KiB.
    pub quantum_bytes: usize,
    /// The largest frame of a request or payload we send, in bytes without the transport's prefix;
    /// longer payloads are cut into fragments (FRAG-01). At least 64. Default 65 KiB, so that 64 KiB
    /// of data fit with a KiB of metadata; `None` never cuts, and payloads that do not fit a frame are
    /// refused.
    pub fragment_bytes: Option<usize>,
    /// The largest payload put together from fragments, in bytes (FRAG-22). Default 64 MiB.
    ///
    /// Beyond, the stream fails with ERROR\[CANCELED\] or CANCEL and the rest is ignored.
    pub max_payload_bytes: usize,
    /// Bytes of all unfinished fragmented payloads of a connection (FRAG-23). Default 64 MiB.
    pub max_reassembly_bytes: usize,
    /// Fragments one payload may have. Default 2,097,152: 64 MiB in the smallest fragments peers send.
    pub max_fragments: usize,
    /// Fragments of one payload that may be empty (FRAG-24). Default 1,024.
    pub max_empty_fragments: usize,
    /// When all stream ids have been used, those of streams that have ended are used again (SID-07).
    /// Default false: no more streams can be opened (SID-06, SID-11).
    pub reuse_stream_ids: bool,
    /// A server takes clients that ask for leases (LEASE-16). Default false: their SETUP is refused
    /// with UNSUPPORTED_SETUP.
    pub leases: bool,
    /// How long requests that crossed a LEASE count against the lease before it, and how much later
    /// than its end the last ones may arrive (LEASE-21). Default 50 ms.
    pub lease_grace: Duration,
    /// How sessions are resumed. Default `None`: a server refuses SETUP that asks for it with
    /// REJECTED_SETUP (SETUP-09). A client asks by the token in its SETUP, and takes the default
    /// limits where none are set.
    pub resume: Option<ResumeLimits>,
}

/// The limits of a session while it can be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResumeLimits {
    /// How long a session is kept without a transport (RESUME-28). Default 60 s.
    pub window: Duration,
    /// Bytes of tracked frames retained until the peer is known to have them, and one frame more
    /// (RESUME-37). Default 1 MiB.
    ///
    /// While it is full nothing that is tracked is sent: producers wait. If a peer with which we
    /// are connected does not acknowledge when it is asked to, the oldest frames are dropped, and
    /// the session may turn out not to be resumable.
    pub max_bytes: usize,
    /// A server takes RESUME of version 0.1 too, as rsocket-js 1.0.0-alpha sends it. Default false.
    pub swapped_version: bool,
}

impl Default for ResumeLimits {
    fn default() -> Self {
        Self { window: Duration::from_secs(60), max_bytes: 1 << 20, swapped_version: false }
    }
}

/// The smallest value of [`Config::fragment_bytes`] (FRAG-06).
pub(crate) const MIN_FRAGMENT_BYTES: usize = 64;

impl Config {
    /// The largest frame of a request or payload we send.
    pub(crate) fn outbound_frame_bytes(&self) -> usize {
        self.fragment_bytes
            .map_or(MAX_FRAME_BYTES, |bytes| bytes.clamp(MIN_FRAGMENT_BYTES, MAX_FRAME_BYTES))
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_frame_bytes: MAX_FRAME_BYTES,
            max_setup_bytes: 128 << 10,
            max_streams: 4_096,
            max_request_bytes: 256 << 20,
            max_queued_replies: 1_024,
            max_queued_reply_bytes: 64 << 10,
            max_error_text_bytes: 1 << 10,
            setup_timeout: Duration::from_secs(10),
            part_timeout: Duration::from_secs(30),
            max_lifetime: Duration::from_secs(600),
            quantum_bytes: 16 << 10,
            fragment_bytes: Some(65 << 10),
            max_payload_bytes: 64 << 20,
            max_reassembly_bytes: 64 << 20,
            max_fragments: 1 << 21,
            max_empty_fragments: 1_024,
            reuse_stream_ids: false,
            leases: false,
            lease_grace: Duration::from_millis(50),
            resume: None,
        }
    }
}
