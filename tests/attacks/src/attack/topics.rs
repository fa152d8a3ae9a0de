//! Topics: logs, readers that read nothing, names, members.

use rsock_wire::{Framing, rc, route, rr, rs};

use super::{Held, crowd};
use crate::{
    target::Target,
    wire::{Sent, Wire},
};

/// Publishes so many messages of so many bytes, each to the topic of its number, and reads the answers.
async fn publish(
    target: &Target,
    messages: usize,
    bytes: usize,
    topic: impl Fn(usize) -> String,
) -> Option<Wire> {
    /// Requests that are open at a time.
    const OPEN: usize = 256;
    let mut wire = target.established(Framing::Tcp).await?;
    let data = vec![b'x'; bytes];
    let mut stream = 1;
    for first in (0..messages).step_by(OPEN) {
        let requests = (first..messages.min(first + OPEN)).map(|number| {
            let id = stream;
            stream += 2;
            rr(id, &data).metadata(route(&topic(number)))
        });
        let requests = Framing::Tcp.wrap_all(requests);
        if wire.push(&requests).await != Sent::All {
            return Some(wire);
        }
        let last = stream - 2;
        // It is answered or refused when those before it are.
        wire.find(|frame| frame.stream == last).await;
    }
    Some(wire)
}

/// Messages to more topics than there is memory for.
pub(super) async fn logs(target: &Target) -> Held {
    let wires = (0..4).map(|connection| async move {
        publish(target, target.many(40_000), 4 << 10, |number| {
            format!("topic.logs.{connection}.{}", number % 250)
        })
        .await
    });
    futures_util::future::join_all(wires).await.into_iter().flatten().collect()
}

/// A message each to a hundred thousand names, by as many connections as that takes: one makes no more than
/// its share.
async fn to_names(target: &Target, prefix: &str) -> Held {
    let wires = (0..11).map(|connection| async move {
        let name = |number| format!("topic.{prefix}.{connection}.{number}");
        publish(target, target.many(10_000), 1, name).await
    });
    futures_util::future::join_all(wires).await.into_iter().flatten().collect()
}

pub(super) async fn names(target: &Target) -> Held {
    to_names(target, "names").await
}

/// The same of topics on disk.
pub(super) async fn disk_names(target: &Target) -> Held {
    to_names(target, "disk.name").await
}

/// Readers that have asked for everything and take nothing.
pub(super) async fn readers(target: &Target) -> Held {
    let asked =
        |stream| rs(stream, 0x7fff_ffff, r#"{"from":"start"}"#).metadata(route("topic.read.1"));
    let requests = Framing::Tcp.wrap_all((0..64).map(|n| asked(2 * n + 1)));
    let reader = || async {
        let mut wire = target.established(Framing::Tcp).await?;
        wire.push(&requests).await;
        Some(wire)
    };
    let mut held = crowd(target.many(500), reader).await;
    held.extend(publish(target, target.many(2_000), 16 << 10, |_| "topic.read.1".to_owned()).await);
    held
}

/// The same of a topic whose messages have to be read from a disk.
pub(super) async fn disk_readers(target: &Target) -> Held {
    let topic = "topic.disk.1";
    let mut held: Held = publish(target, target.many(4_000), 16 << 10, |_| topic.to_owned())
        .await
        .into_iter()
        .collect();
    let asked =
        |stream| rs(stream, 0x7fff_ffff, r#"{"from":"start"}"#).metadata(route("topic.disk.1"));
    let requests = Framing::Tcp.wrap_all((0..256).map(|n| asked(2 * n + 1)));
    let reader = || async {
        let mut wire = target.established(Framing::Tcp).await?;
        wire.push(&requests).await;
        Some(wire)
    };
    held.extend(crowd(target.many(100), reader).await);
    held
}

/// Members that say as much of themselves as they may, in as many rooms.
pub(super) async fn members(target: &Target) -> Held {
    let info = "i".repeat(1_000);
    let member = || async {
        let mut wire = target.established(Framing::Tcp).await?;
        let serial = target.serial();
        let joins = (0..1_000).map(|n| {
            let options = format!(
                r#"{{"name":"member {serial}","info":{{"about":"{info}"}},"receive":"none"}}"#
            );
            rc(2 * n + 1, 1, options).metadata(route(&format!("topic.hall.{}", n % 100)))
        });
        wire.push(&Framing::Tcp.wrap_all(joins)).await;
        Some(wire)
    };
    crowd(target.many(100), member).await
}
