//! The settings that clients and servers share, and their defaults.

use rsock_proto::Window;

/// How many requests may be open at a time on a connection.
pub const DEFAULT_MAX_REQUESTS: usize = 4_096;
/// How many items a stream keeps outstanding at first unless it says otherwise.
pub const DEFAULT_CREDIT: u32 = 256;
/// How many it keeps outstanding at most, where items are small and it is the credit that holds their
/// sender up.
const MAX_DEFAULT_CREDIT: u32 = 4_096;
/// The bytes of items up to which it asks for more than [`DEFAULT_CREDIT`].
const MAX_GROWN_BYTES: usize = 256 << 10;

/// Bytes that may wait for all consumers of a connection unless it is set otherwise.
pub(crate) const DEFAULT_MAX_WAITING_BYTES: usize = 64 << 20;

/// The policy of a stream that has none of its own.
pub(crate) fn default_window() -> Window {
    Window::new(DEFAULT_CREDIT).grows_to(MAX_DEFAULT_CREDIT, MAX_GROWN_BYTES)
}
