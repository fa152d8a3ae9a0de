//! The RSocket 1.0 protocol engine, without I/O.
//!
//! [`Connection`] is a function of what it is told and when: no sockets, no clock, no tasks, no
//! randomness. Its owner feeds it bytes and times, drains what it has to say, and sleeps until the
//! deadline it names:
//!
//! ```
//! use std::{sync::Arc, time::Instant};
//! use bytes::BytesMut;
//! use rsock_proto::{Config, Connection, Event, SendBuf};
//!
//! # fn read_from_socket(_: &mut BytesMut) {}
//! # fn write_to_socket(_: &mut SendBuf) {}
//! let now = Instant::now();
//! let mut connection = Connection::server(Arc::new(Config::default()), now);
//! let (mut input, mut output) = (BytesMut::new(), SendBuf::length_prefixed());
//!
//! read_from_socket(&mut input);
//! connection.handle_bytes(&mut input, now);
//! while let Some(event) = connection.poll_event() {
//!     match event {
//!         Event::Setup(_) => connection.accept(now),
//!         Event::Request { key, payload, .. } => {
//!             if let Some(mut stream) = connection.stream(key) {
//!                 let _ = stream.send_last(payload);
//!             }
//!         }
//!         _ => {}
//!     }
//! }
//! connection.poll_transmit(&mut output);
//! write_to_socket(&mut output);
//! let sleep_until = connection.poll_timeout();
//! # assert!(sleep_until.is_some());
//! ```
//!
//! IDs such as `RS-02` name requirements of the protocol, which are listed in
//! [docs/spec.md](https://github.com/rsock/rsock/blob/main/docs/spec.md).

mod config;
mod connection;
mod error;
pub mod frame;
pub mod metadata;
mod payload;
mod printable;
mod stats;
mod stream;
#[cfg(test)]
mod tests;
mod transmit;

pub use config::{Config, MAX_FRAME_BYTES, ResumeLimits};
pub use connection::{
    AnswerNow, Connection, Event, Fragmented, Items, Role, StreamMut, StreamSummary,
};
pub use error::{
    CloseReason, ControlError, ErrorCode, IoError, NotResumed, RequestError, SendError, Side,
    StreamError, Violation,
};
pub use frame::Interaction;
pub use payload::{Payload, SharedPayload};
pub use printable::Printable;
pub use stats::{Figure, FigureKind, Stats};
pub use stream::{Credit, StreamKey, Window};
pub use transmit::{Envelope, SendBuf};
