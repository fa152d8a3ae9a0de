//! The attacks: each a way to make a server hold, or do, more than it should.

mod crowds;
mod pinned;
mod topics;
mod unfinished;
mod unread;

use futures_util::{StreamExt, future::BoxFuture, stream};

use crate::{target::Target, wire::Wire};

/// The connections and frames that an attacker goes on holding when it has sent everything.
pub type Held = Vec<Wire>;

/// An attack on a server.
#[derive(Clone, Copy, Debug)]
pub struct Attack {
    /// A short name.
    pub name: &'static str,
    /// The attack in words.
    pub story: &'static str,
    /// Its messages are kept in the logs of topics when it has gone.
    pub leaves_topics: bool,
    /// The connections it has at full size: what they cost by being there is not its doing.
    pub connections: usize,
    /// The attack itself: it ends when everything has been sent that the server takes.
    pub run: for<'a> fn(&'a Target) -> BoxFuture<'a, Held>,
}

/// An entry of the list, whose function has the attack's name.
macro_rules! attack {
    ($module:ident :: $name:ident, $connections:expr, $story:expr) => {
        Attack {
            name: stringify!($name),
            story: $story,
            leaves_topics: matches!(stringify!($module).as_bytes(), b"topics"),
            connections: $connections,
            run: |target| Box::pin($module::$name(target)),
        }
    };
}

/// All there are.
pub const ALL: &[Attack] = &[
    attack!(
        pinned::retained_slices,
        1,
        "60 answers of 4.2 KB retained, each a slice of a 16 MB read block"
    ),
    attack!(
        pinned::retained_slices_apart,
        1,
        "the same, the connection then closed and the session left"
    ),
    attack!(
        pinned::waiting_requests,
        1,
        "60 small requests whose answers nobody reads, each out of a 16 MB block"
    ),
    attack!(
        pinned::waiting_items,
        1,
        "60 small channel items that nobody takes, each out of a 16 MB block"
    ),
    attack!(
        pinned::keepalive_echoes,
        16,
        "KEEPALIVEs of odd sizes out of large blocks, answers not read"
    ),
    attack!(pinned::long_setups, 1_000, "1,000 SETUPs of 1 MiB with long MIME types and tokens"),
    attack!(pinned::metadata_pushes, 1, "600 metadata pushes, each out of a 4 MB block"),
    attack!(unread::windows, 1, "4 channels × 256 items of 1 MiB that nobody takes"),
    attack!(unread::many_windows, 20, "the same of 256 KiB on 20 connections"),
    attack!(unread::streams, 200, "200 connections × 64 endless streams of 1 MiB items, not read"),
    attack!(unread::answers, 40, "40 connections × 64 echoes of 1 MiB, not read"),
    attack!(unfinished::half_payloads, 1, "8 half payloads of 63 MiB on one connection"),
    attack!(
        unfinished::many_half_payloads,
        40,
        "a half payload of 63 MiB on each of 40 connections"
    ),
    attack!(unfinished::half_frames, 100, "half a frame of 16 MiB on each of 100 connections"),
    attack!(
        unfinished::half_messages,
        100,
        "half a WebSocket message of 16 MiB in parts, on 100 connections"
    ),
    attack!(unfinished::half_heads, 4_000, "half the head of an HTTP request on 4,000 connections"),
    attack!(crowds::error_texts, 2, "twice ERROR of 16 MB text with 4,096 channels open"),
    attack!(
        crowds::abandoned_sessions,
        10_000,
        "10,000 sessions left, each with an endless stream to retain"
    ),
    attack!(crowds::streams_at_the_limit, 100, "100 connections × 4,096 waiting streams"),
    attack!(pinned::websocket_retained_slices, 1, "retained slices over WebSocket"),
    attack!(unread::websocket_windows, 1, "windows over WebSocket"),
    attack!(unfinished::websocket_half_payloads, 40, "half payloads of 63 MiB over 40 WebSockets"),
    attack!(topics::logs, 4, "640 MiB published to 1,000 topics"),
    attack!(topics::names, 11, "a message to each of 110,000 topics"),
    attack!(topics::disk_names, 11, "a message to each of 110,000 topics on disk"),
    attack!(
        topics::readers,
        501,
        "500 connections × 64 readers of a topic that read nothing, while 32 MiB are published to it"
    ),
    attack!(
        topics::disk_readers,
        101,
        "100 connections × 256 readers of 64 MiB on disk that read nothing"
    ),
    attack!(
        topics::members,
        100,
        "100 connections × 1,000 members of 100 rooms, each with 1 KiB of information"
    ),
];

/// Connections of a crowd that are at work at a time.
const AT_A_TIME: usize = 10;

/// So many attackers, some at a time; those that got a connection.
async fn crowd<F: Future<Output = Option<Wire>>>(count: usize, attacker: impl Fn() -> F) -> Held {
    let attackers = stream::iter(0..count).map(|_| attacker());
    attackers.buffer_unordered(AT_A_TIME).filter_map(async |wire| wire).collect().await
}

/// The attack of this name.
pub fn find(name: &str) -> Option<&'static Attack> {
    ALL.iter().find(|attack| attack.name == name)
}
