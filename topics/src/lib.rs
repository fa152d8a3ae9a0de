//! Topics over a bounded log, without I/O: the same calls and times give the same result.
//!
//! A message is appended once and encoded once; a subscriber is a cursor, which holds nothing. The core
//! knows no sockets, no tasks and no clock.

mod cursor;
mod dedup;
mod entry;
mod ephemeral;
mod history;
pub mod join;
mod json;
mod log;
mod memory;
mod name;
mod options;
mod position;
mod presence;
mod rate;
mod refusal;
mod registry;
#[cfg(feature = "serve")]
mod serve;
mod settings;
#[cfg(feature = "durable")]
pub mod store;
mod sync;
mod time;
mod topic;

pub use cursor::{Cursor, Fill, Shape, Sink};
pub use dedup::{Dedup, DedupKey, DedupSecret};
pub use entry::{Description, Encoded, Encoder, Entry, Form, Item, Message, Meta, Room};
pub use ephemeral::{Event, Events};
pub use history::{Backward, Moment, Question, Wanted, page};
pub use json::Readable;
pub use log::{Latest, Ring, Segment};
pub use memory::Held;
pub use name::{Pattern, TopicName};
pub use options::{
    Around, HistoryOptions, HistoryPageOptions, Info, JoinOptions, Lag, PresenceOptions,
    PresencePageOptions, PublishOptions, Receive, Start, SubscribeOptions, TopicsOptions,
    is_member_name,
};
pub use position::{Epoch, Offset, Position};
pub use presence::{
    Begun, Presence, PresenceFigures, PresenceSettings, SessionEnd, SessionId, Watcher,
};
pub use rate::{Bucket, Buckets, Rate, TooFast};
pub use refusal::Refusal;
pub use registry::{Maker, Reader, Topics};
#[cfg(all(feature = "serve", feature = "durable", target_os = "linux"))]
pub use serve::DamagedTopic;
#[cfg(feature = "serve")]
pub use serve::{Action, AllowAll, Clock, Permit, PresenceSession, Service, TopicFigures};
pub use settings::{Creation, Kind, Limits, Pending, Retention, Settings, SyncMode, TopicSettings};
pub use time::{Instant, Now};
pub use topic::{
    Ended, Hub, Journal, Publish, Published, Pumped, Recovered, Staged, Store, Topic, Wake,
};
