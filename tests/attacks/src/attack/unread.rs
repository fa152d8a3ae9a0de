//! Attacks that do not take what is theirs to take: items, answers, streams.

use rsock_wire::{Frame, Framing, N, kind, p, rc, route, rr, rs};

use super::{Held, crowd};
use crate::{
    target::Target,
    wire::{Sent, Wire},
};

/// Opens channels whose handler may not send, and fills what they grant.
async fn fill_windows(
    target: &Target,
    framing: Framing,
    channels: u32,
    bytes: usize,
) -> Option<Wire> {
    let mut wire = target.established(framing).await?;
    for stream in (0..channels).map(|n| 2 * n + 1) {
        wire.send([rc(stream, 1, "first").metadata(route("echo"))]).await;
        let item = framing.wrap(&p(stream, N, vec![b'x'; bytes]).encode());
        let is_credit = |frame: &Frame| frame.stream == stream && frame.kind == kind::REQUEST_N;
        let grant = wire.find(is_credit).await;
        let granted = grant.map_or(0, |frame| frame.number()) as usize;
        for _ in 0..target.many(granted) {
            match wire.push(&item).await {
                Sent::All => {}
                Sent::Stuck | Sent::Closed => return Some(wire),
            }
        }
    }
    Some(wire)
}

/// Windows that count items and not bytes.
pub(super) async fn windows(target: &Target) -> Held {
    fill_windows(target, Framing::Tcp, 4, 1 << 20).await.into_iter().collect()
}

/// The same over WebSocket.
pub(super) async fn websocket_windows(target: &Target) -> Held {
    fill_windows(target, Framing::WebSocket, 4, 1 << 20).await.into_iter().collect()
}

/// Windows of many connections.
pub(super) async fn many_windows(target: &Target) -> Held {
    crowd(target.many(20), || fill_windows(target, Framing::Tcp, 1, 256 << 10)).await
}

/// Endless streams of large items.
pub(super) async fn streams(target: &Target) -> Held {
    let request = |stream| rs(stream, 0x7fff_ffff, r#"{"size":1048576}"#).metadata(route("range"));
    let requests = Framing::Tcp.wrap_all((0..64).map(|n| request(2 * n + 1)));
    let attacker = || async {
        let mut wire = target.established(Framing::Tcp).await?;
        wire.push(&requests).await;
        Some(wire)
    };
    crowd(target.many(200), attacker).await
}

/// Large answers to large requests.
pub(super) async fn answers(target: &Target) -> Held {
    let data = vec![b'a'; 1 << 20];
    let requests: Vec<_> = (0..64)
        .map(|n| Framing::Tcp.wrap(&rr(2 * n + 1, &data).metadata(route("echo")).encode()))
        .collect();
    let attacker = || async {
        let mut wire = target.established(Framing::Tcp).await?;
        push_all(&mut wire, &requests).await;
        Some(wire)
    };
    crowd(target.many(40), attacker).await
}

async fn push_all(wire: &mut Wire, parts: &[Vec<u8>]) {
    for part in parts {
        if wire.push(part).await != Sent::All {
            return;
        }
    }
}
