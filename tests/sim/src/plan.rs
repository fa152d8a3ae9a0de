//! The plan of a world before anything happens: its limits and what the two sides agree on.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rsock_proto::{
    Config, MAX_FRAME_BYTES, Payload, ResumeLimits,
    frame::{Setup, VERSION},
};

use crate::op::Choices;

const TOKEN: &[u8] = b"\0\xFFtoken";

/// A world to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Somebody writes on the wire who is neither side.
    pub hostile: bool,
    /// The transport moves messages, and not bytes.
    pub messages: bool,
    /// Milliseconds between the client's KEEPALIVEs.
    pub keepalive_ms: u32,
    /// Milliseconds of silence before a peer counts as dead.
    pub lifetime_ms: u32,
    /// Applications that send several items send long ones.
    pub bulk: bool,
    /// Requests wait for leases.
    pub leases: bool,
    /// Leases come with the connection and with each resume alone, and never run out.
    pub steady_leases: bool,
    /// The session outlives its transport.
    pub resume: bool,
    /// Whether each side writes what can be at once: see [`rsock_proto::Connection::request_now`].
    pub at_once: [bool; 2],
    /// The limits of the client and of the server.
    pub limits: [Limits; 2],
}

/// The limits of one side.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "as in the engine's Config")]
pub struct Limits {
    pub quantum_bytes: u32,
    pub fragment_bytes: Option<u32>,
    /// Some of what follows is small: requests and payloads may be refused.
    pub tight: bool,
    pub max_streams: u32,
    pub max_request_bytes: u32,
    pub max_payload_bytes: u32,
    pub max_reassembly_bytes: u32,
    pub max_queued_replies: u32,
    pub window_ms: u32,
    pub max_retained_bytes: u32,
}

impl Plan {
    /// Some plan.
    pub fn arbitrary(from: &mut impl Choices, hostile: bool) -> Self {
        Self {
            hostile,
            messages: from.one_in(4),
            keepalive_ms: from.pick(&[1, 50, 500, 5_000]),
            lifetime_ms: from.pick(&[300, 2_000, 20_000, 20_000, 20_000]),
            bulk: from.one_in(8),
            leases: from.one_in(4),
            steady_leases: from.one_in(2),
            resume: from.one_in(2),
            at_once: [from.one_in(2), from.one_in(2)],
            limits: [Limits::arbitrary(from), Limits::arbitrary(from)],
        }
    }

    /// The client's SETUP.
    pub(crate) fn setup(&self) -> Setup {
        Setup {
            version: VERSION,
            keepalive_interval_ms: self.keepalive_ms,
            max_lifetime_ms: self.lifetime_ms,
            resume_token: self.resume.then(|| Bytes::from_static(TOKEN)),
            lease: self.leases,
            metadata_mime: Bytes::from_static(b"a/b"),
            data_mime: Bytes::from_static(b"c/d"),
            payload: Payload::new("setup"),
        }
    }

    /// How long a side tolerates silence.
    pub(crate) fn tolerance(&self) -> Duration {
        Duration::from_millis(self.lifetime_ms.max(self.keepalive_ms).into())
    }
}

impl Limits {
    fn arbitrary(from: &mut impl Choices) -> Self {
        let tight = from.one_in(4);
        let mut limit = |small: &[u32], ample: u32| if tight { from.pick(small) } else { ample };
        let max_streams = limit(&[1, 2, 8, 4_096], 4_096);
        let max_request_bytes = limit(&[1_000, 50_000, 1 << 28], 1 << 28);
        let max_payload_bytes = limit(&[500, 20_000, 1 << 26], 1 << 26);
        let max_reassembly_bytes = limit(&[700, 30_000, 1 << 26], 1 << 26);
        let max_queued_replies = limit(&[1, 4, 1_024], 1_024);
        let fragment_bytes = match from.below(8) {
            0 => None,
            1 => Some(64),
            2 => Some(64 << 10),
            3 => Some(1_024),
            _ => Some(64 + from.below(300)),
        };
        Self {
            quantum_bytes: from.pick(&[1, 100, 1_000, 16 << 10]),
            fragment_bytes,
            tight,
            max_streams,
            max_request_bytes,
            max_payload_bytes,
            max_reassembly_bytes,
            max_queued_replies,
            window_ms: from.pick(&[1_000, 60_000, 60_000, 60_000]),
            max_retained_bytes: from.pick(&[500, 3_000, 20_000, 1 << 20, 1 << 20]),
        }
    }

    pub(crate) fn config(&self, plan: &Plan) -> Arc<Config> {
        let mut config = Config::default();
        config.quantum_bytes = self.quantum_bytes as usize;
        config.fragment_bytes = self.fragment_bytes.map(|bytes| bytes as usize);
        config.max_streams = self.max_streams as usize;
        config.max_request_bytes = self.max_request_bytes as usize;
        config.max_payload_bytes = self.max_payload_bytes as usize;
        config.max_reassembly_bytes = self.max_reassembly_bytes as usize;
        config.max_queued_replies = self.max_queued_replies as usize;
        config.leases = plan.leases;
        config.resume = plan.resume.then(|| {
            let mut limits = ResumeLimits::default();
            limits.window = Duration::from_millis(self.window_ms.into());
            limits.max_bytes = self.max_retained_bytes as usize;
            limits
        });
        Arc::new(config)
    }

    /// The longest frame of a request or payload it writes.
    pub(crate) fn frame_bytes(&self) -> usize {
        self.fragment_bytes.map_or(MAX_FRAME_BYTES, |bytes| bytes as usize)
    }
}
