//! Counters of one connection: plain numbers, read by whoever owns it.

/// What happened on a connection since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Frames received, whatever became of them.
    pub frames_in: u64,
    /// Frames written to the send buffer.
    pub frames_out: u64,
    /// Bytes of frames received, without transport prefixes.
    pub bytes_in: u64,
    /// Bytes written, with the transport's prefixes.
    pub bytes_out: u64,
    /// Requests the peer opened that reached the application.
    pub requests_in: u64,
    /// Requests opened towards the peer.
    pub requests_out: u64,
    /// Those of them that are fire-and-forgets, once they are written whole.
    pub fire_and_forget_out: u64,
    /// Items received on streams and channels.
    pub items_in: u64,
    /// Items sent on streams and channels.
    pub items_out: u64,
    /// Times a sender had spent its credit and had to wait for the peer's REQUEST_N.
    pub credit_stalls: u64,
    /// Frames ignored because no stream accounts for them (UNX-04).
    pub ignored_unknown_stream: u64,
    /// Frames ignored because they make no sense where they came (UNX-01).
    pub ignored_out_of_place: u64,
    /// Frames of unknown type, or malformed, dropped because their ignore flag was set (FRAME-11, FRAME-13).
    pub ignored_on_request: u64,
    /// Requests refused because the peer holds as many streams as it may (DOS-02).
    pub refused_streams: u64,
    /// Requests refused because the peer's open requests hold as many bytes as they may.
    pub refused_request_bytes: u64,
    /// Requests refused and fragmented payloads given up because there was no memory left for this
    /// connection.
    pub refused_memory: u64,
    /// Frames and fragmented payloads given up because no more of them came in time.
    pub stalled_parts: u64,
    /// Fire-and-forget requests dropped for one of these reasons.
    pub dropped_fire_and_forget: u64,
    /// Fragmented payloads given up: too large, too many fragments, or in disorder (FRAG-22).
    pub refused_assemblies: u64,
    /// KEEPALIVE replies dropped because the peer does not read (KA-15).
    pub dropped_keepalive_replies: u64,
    /// Requests refused, and fire-and-forgets dropped, because the peer had no lease for them (LEASE-11).
    pub refused_leases: u64,
    /// Times the session was resumed on a new transport.
    pub resumes: u64,
    /// Frames written again after a resume.
    pub replayed_frames: u64,
    /// Retained frames dropped although the peer may not have them, because it does not acknowledge
    /// any: a resume may fail (RESUME-37).
    pub retention_overflows: u64,
    /// Times nothing more was read because as many refusals as may wait were unwritten (DOS-01).
    pub paused_reads: u64,
    /// Texts of the peer's errors of which no more was kept than `max_error_text_bytes`.
    pub cut_error_texts: u64,
    /// 1 if the peer broke the protocol, and was sent away for it.
    pub violations: u64,
    /// Times a transport was given up for bytes that were no frames, and the session stayed.
    pub broken_transports: u64,
    /// 1 if SETUP, or the acceptor's answer to it, did not come in time (SETUP-30).
    pub setup_timeouts: u64,
    /// Times the peer was silent for longer than its keepalive lifetime (KA-10).
    pub keepalive_timeouts: u64,
    /// Streams ended because the peer sent more than it was granted (RS-14, RC-21).
    pub credit_violations: u64,
}
