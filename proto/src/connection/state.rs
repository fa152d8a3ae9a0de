//! The states of a connection's life.

use std::{sync::Arc, time::Instant};

use crate::error::{ErrorCode, StreamError};

/// ```text
/// server: AwaitingSetup ──SETUP──▶ Accepting ──accept──▶ Established
/// client: Unconfirmed ──any frame but ERROR on stream 0──▶ Established
///
/// Unconfirmed, Established ──drain, CONNECTION_CLOSE──▶ Draining ──last stream ends──┐
/// any ──violation, reject, close──▶ Closing ──final ERROR written──▶ Closed ◀────────┘
/// any ──disconnect, ERROR from the peer─────────────────────────────▶ Closed
/// ```
#[derive(Debug)]
pub(crate) enum State {
    /// A server that has received nothing.
    AwaitingSetup { until: Instant },
    /// A server whose acceptor has not answered.
    Accepting { until: Instant },
    /// A client that does not know yet whether its SETUP is accepted; it may send requests (SETUP-19).
    Unconfirmed,
    /// In use.
    Established,
    /// No new requests in either direction; closes with the last stream. Where it was the peer who
    /// asked for it, this is its CONNECTION_CLOSE: however the transport ends behind it, that is why.
    Draining { by_peer: Option<StreamError>, confirmed: bool },
    /// A last ERROR frame is to be written, on stream 0.
    Closing { code: ErrorCode, message: Arc<str> },
    /// Over.
    Closed,
}

impl State {
    /// We are a client that may still be refused (SETUP-24).
    pub(crate) fn is_unconfirmed(&self) -> bool {
        matches!(self, Self::Unconfirmed | Self::Draining { confirmed: false, .. })
    }

    /// Why the peer takes no more requests, if it has said so.
    pub(crate) fn goodbye(&self) -> Option<&StreamError> {
        match self {
            Self::Draining { by_peer, .. } => by_peer.as_ref(),
            _ => None,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Closing { .. } | Self::Closed)
    }
}
