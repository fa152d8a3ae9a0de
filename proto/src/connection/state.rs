//! Where a connection is in its life.

use std::time::Instant;

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
    /// No new requests in either direction; closes with the last stream.
    Draining { by_peer: bool, confirmed: bool },
    /// A last ERROR frame is to be written.
    Closing,
    /// Over.
    Closed,
}

impl State {
    /// We are a client that may still be refused (SETUP-24).
    pub(crate) fn is_unconfirmed(&self) -> bool {
        matches!(self, Self::Unconfirmed | Self::Draining { confirmed: false, .. })
    }

    pub(crate) fn is_over(&self) -> bool {
        matches!(self, Self::Closing | Self::Closed)
    }
}
