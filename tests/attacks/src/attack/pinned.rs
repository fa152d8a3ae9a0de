//! Small things kept out of large blocks: a slice keeps all of what it was read into.

use rsock_wire::{Framing, N, R, ka, mp, p, rc, route, rr, rs};

use super::{Held, crowd};
use crate::{
    target::{MAX_FRAME, Target, junk, patient_setup, session_setup},
    wire::{Sent, Wire},
};

/// The junk beside each small frame.
const JUNK: usize = 16_000_000;

/// Sends each of these behind a block of junk, as long as the server takes them.
async fn behind_junk(wire: &mut Wire, size: usize, frames: impl IntoIterator<Item = Vec<u8>>) {
    let junk = wire.framing.wrap(&junk(size).encode());
    let mut block = Vec::with_capacity(junk.len() + (64 << 10));
    for frame in frames {
        block.clear();
        block.extend_from_slice(&junk);
        block.extend_from_slice(&frame);
        if wire.push(&block).await != Sent::All {
            return;
        }
    }
}

async fn retained(target: &Target, framing: Framing) -> Held {
    let Some(mut wire) = target.session(framing).await else { return Held::new() };
    for n in 0..target.many(60) as u32 {
        let id = 2 * n + 1;
        let request = framing.wrap(&rr(id, vec![b'd'; 4_200]).metadata(route("echo")).encode());
        behind_junk(&mut wire, JUNK, [request]).await;
        if wire.find(|frame| frame.stream == id).await.is_none() {
            break;
        }
    }
    vec![wire]
}

/// Answers that are slices of the request, retained for a resume.
pub(super) async fn retained_slices(target: &Target) -> Held {
    retained(target, Framing::Tcp).await
}

/// The same over WebSocket.
pub(super) async fn websocket_retained_slices(target: &Target) -> Held {
    retained(target, Framing::WebSocket).await
}

/// The same, and the session is left.
pub(super) async fn retained_slices_apart(target: &Target) -> Held {
    drop(retained(target, Framing::Tcp).await);
    Held::new()
}

/// A connection that has an endless stream and reads nothing, so that all else waits.
async fn full(target: &Target) -> Option<Wire> {
    let mut wire = target.established(Framing::Tcp).await?;
    wire.send([rs(1, 0x7fff_ffff, r#"{"size":65536}"#).metadata(route("range"))]).await;
    Some(wire)
}

/// Answers wait behind what is not read, and with them the requests.
pub(super) async fn waiting_requests(target: &Target) -> Held {
    let Some(mut wire) = full(target).await else { return Held::new() };
    let requests = (0..target.many(60) as u32).map(|n| {
        let request = rr(2 * n + 3, vec![b'd'; 5_000]).metadata(route("echo"));
        Framing::Tcp.wrap(&request.encode())
    });
    behind_junk(&mut wire, JUNK, requests).await;
    vec![wire]
}

/// Items wait in the window of a channel whose handler may not send.
pub(super) async fn waiting_items(target: &Target) -> Held {
    let Some(mut wire) = target.established(Framing::Tcp).await else { return Held::new() };
    wire.send([rc(1, 1, "first").metadata(route("echo"))]).await;
    let items = (0..target.many(60)).map(|_| Framing::Tcp.wrap(&p(1, N, [b'i'; 100]).encode()));
    behind_junk(&mut wire, JUNK, items).await;
    vec![wire]
}

/// Answers to KEEPALIVE wait behind what is not read.
pub(super) async fn keepalive_echoes(target: &Target) -> Held {
    let attacker = || async {
        let mut wire = full(target).await?;
        let sizes = (0..60).map(|n| [60, 1_100, 5_000, 60_000][n % 4] + n);
        let echoes = sizes.map(|size| Framing::Tcp.wrap(&ka(R, 0, vec![b'k'; size]).encode()));
        behind_junk(&mut wire, 1 << 20, echoes).await;
        wire.send([ka(R, 0, vec![b'k'; MAX_FRAME - 14])]).await;
        Some(wire)
    };
    crowd(target.many(16), attacker).await
}

/// MIME types and tokens of SETUP are kept with the connection.
pub(super) async fn long_setups(target: &Target) -> Held {
    let mime = [b'm'; 255];
    let length = [255];
    let attacker = || async {
        let mut wire = target.connect_from_many(Framing::Tcp).await?;
        // Half of them with sessions.
        let serial = target.serial();
        let mut setup = if serial % 4 < 2 { patient_setup() } else { session_setup(serial) };
        let mimes = setup.fixed.len() - 2 - 39 - 24;
        setup.fixed.truncate(mimes);
        for part in [&length[..], &mime, &length, &mime] {
            setup.fixed.extend_from_slice(part);
        }
        wire.send([setup.metadata([b'm'; 1_000]).data(vec![b'd'; 1 << 20])]).await;
        Some(wire)
    };
    crowd(target.many(1_000), attacker).await
}

/// Metadata that a handler is given one after the other.
pub(super) async fn metadata_pushes(target: &Target) -> Held {
    let Some(mut wire) = target.established(Framing::Tcp).await else { return Held::new() };
    let pushes = (0..target.many(600)).map(|_| Framing::Tcp.wrap(&mp([b'm'; 200]).encode()));
    behind_junk(&mut wire, 4 << 20, pushes).await;
    vec![wire]
}
