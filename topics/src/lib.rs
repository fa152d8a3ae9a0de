//! Topics over a bounded log, without I/O: the same calls and times give the same result.
//!
//! A message is appended once and encoded once; a subscriber is a cursor, which holds nothing. The core
//! knows no sockets, no tasks and no clock.

mod name;
mod position;
mod refusal;
mod time;

pub use name::{Pattern, TopicName};
pub use position::{Epoch, Offset, Position};
pub use refusal::Refusal;
pub use time::{Instant, Now};
