//! How a connection is, as its handles see it.

use rsock_proto::CloseReason;

/// How a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionState {
    /// SETUP is sent; whether the server accepts it is not known yet.
    Connecting,
    /// In use.
    Established,
    /// The transport is lost; the session waits for another, and what is asked waits with it.
    Suspended,
    /// The connection is lost, and what was pending on it has failed; another is dialled, and what is
    /// asked waits for it.
    Reconnecting,
    /// It ends with the last stream that is open, and nothing new is asked: for this reason, which is
    /// the peer's CONNECTION_CLOSE or that it is closed here.
    Draining(CloseReason),
    /// Over, for this reason.
    Closed(CloseReason),
}
