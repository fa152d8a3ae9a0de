//! Streams as whoever looks at a connection sees them.

use super::{
    peer::{RC, RR, RS, Wire},
    wire::*,
};
use crate::Side::{Local, Peer};

/// All that there is to see of each stream, by its id.
fn seen(e: &Wire) -> Vec<String> {
    let all = e.connection.each_stream();
    let mut seen: Vec<_> = all
        .map(|stream| {
            let id = stream.key.id().get();
            let text = format!(
                "{id} {:?} {:?} {}/{} {}",
                stream.interaction, stream.by, stream.sent, stream.granted, stream.awaited
            );
            (id, text)
        })
        .collect();
    seen.sort_unstable();
    seen.into_iter().map(|(_, text)| text).collect()
}

#[test]
fn what_the_peer_asked_for_is_seen_with_what_was_sent_of_it() {
    let mut e = Wire::server();
    assert_eq!(seen(&e), [""; 0]);
    e.receive_all([rs(1, 3, "d"), rc(3, 9, "d"), rr(5, "d")]);
    e.events();
    assert_eq!(e.send_up_to(1, 2), 2);
    e.stream(3).request_n(4);
    e.sent();
    e.receive(p(3, N, "x"));
    assert_eq!(
        seen(&e),
        [
            "1 RequestStream Peer 2/3 0".to_owned(),
            "3 RequestChannel Peer 0/9 3".to_owned(),
            "5 RequestResponse Peer 0/1 0".to_owned(),
        ]
    );
    // What has ended is not seen.
    e.receive_all([can(1), can(3)]);
    e.events();
    assert_eq!(seen(&e), ["5 RequestResponse Peer 0/1 0"]);
    assert!(e.connection.each_stream().all(|stream| stream.by == Peer && !stream.has_unsent));
}

#[test]
fn what_we_asked_for_is_seen_with_what_has_not_come() {
    let mut e = Wire::client();
    for (interaction, n) in [(RS, 9), (RC, 5), (RR, 0)] {
        e.request(interaction, "d", n);
    }
    assert!(e.connection.each_stream().all(|stream| stream.by == Local && stream.has_unsent));
    e.sent();
    e.receive_all([p(1, N, "a"), p(1, N, "b"), rn(3, 7)]);
    e.events();
    assert_eq!(e.send_up_to(3, 1), 1);
    e.sent();
    assert_eq!(
        seen(&e),
        [
            "1 RequestStream Local 0/0 7",
            "3 RequestChannel Local 1/7 5",
            "5 RequestResponse Local 0/0 1",
        ]
    );
}
