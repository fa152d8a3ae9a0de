//! Many of something that is allowed once: streams with a text for each, sessions, streams.

use futures_util::future::join_all;
use rsock_wire::{Framing, err, rc, route, rs};

use super::{Held, crowd};
use crate::target::{Target, session_setup};

/// Streams a connection may hold open unless it is told otherwise.
const MAX_STREAMS: u32 = 4_096;

/// A connection's last word, of 16 MB, with all streams open.
pub(super) async fn error_texts(target: &Target) -> Held {
    let text = err(0, 0x101, vec![b'E'; target.many(16_000_000)]);
    let channels = (0..MAX_STREAMS).map(|n| rc(2 * n + 1, 2, "").metadata(route("echo")));
    let channels = Framing::Tcp.wrap_all(channels);
    let both = (0..2).map(|_| async {
        let mut wire = target.established(Framing::Tcp).await?;
        wire.push(&channels).await;
        wire.send([text.clone()]).await;
        wire.drain().await;
        Some(wire)
    });
    join_all(both).await.into_iter().flatten().collect()
}

/// Sessions that go on producing into what they retain.
pub(super) async fn abandoned_sessions(target: &Target) -> Held {
    let request = rs(1, 0x7fff_ffff, r#"{"size":16384}"#).metadata(route("range"));
    let attacker = || async {
        let mut wire = target.connect_from_many(Framing::Tcp).await?;
        wire.send([session_setup(target.serial()), request.clone()]).await;
        // It has been taken up when the first item is here.
        wire.find(|frame| frame.stream == 1).await;
        None
    };
    crowd(target.many(10_000), attacker).await
}

/// Streams that wait, as many as may be.
pub(super) async fn streams_at_the_limit(target: &Target) -> Held {
    let request = |n| rs(2 * n + 1, 1, r#"{"interval_ms":4000000000}"#).metadata(route("range"));
    let requests = Framing::Tcp.wrap_all((0..MAX_STREAMS).map(request));
    let attacker = || async {
        let mut wire = target.established(Framing::Tcp).await?;
        wire.push(&requests).await;
        // The last has its item when all have been taken, or is refused.
        wire.find(|frame| frame.stream == 2 * MAX_STREAMS - 1).await;
        Some(wire)
    };
    crowd(target.many(100), attacker).await
}
