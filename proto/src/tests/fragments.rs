//! Ends right behind fragments, which some peers cannot take.

use super::{
    peer::{FNF, RC, RR, RS, Wire},
    wire::*,
};
use crate::{Config, ErrorCode, Fragmented};

fn config() -> Config {
    Config { fragment_bytes: Some(64), ..Config::default() }
}

fn data(len: usize) -> String {
    "d".repeat(len)
}

/// The fragments that the end came behind, whether they are of a request, and whether more was to come.
fn ended_behind(e: &Wire) -> Option<(u32, bool, bool)> {
    let Fragmented { fragments, frame_bytes, is_request, is_pending } =
        e.connection.ended_behind()?;
    assert_eq!(frame_bytes, 64);
    Some((fragments, is_request, is_pending))
}

#[test]
fn a_request_that_left_in_fragments_is_known_when_nothing_follows_but_the_end() {
    for interaction in [RR, RS, RC, FNF] {
        let mut e = Wire::fresh_client(config());
        e.request(interaction, data(120), 3);
        e.sent();
        assert_eq!(ended_behind(&e), None, "it has not ended");
        e.disconnect(None);
        let is_pending = interaction != FNF;
        assert_eq!(ended_behind(&e), Some((3, true, is_pending)), "{interaction:?}");
    }
    // Nor where it was accepted before, where a part of it was still to be written, or where the peer
    // says that it is an error.
    let mut e = Wire::client_with(config());
    e.request(RR, data(1_000), 0);
    e.sent_next(2);
    e.disconnect(Some("reset"));
    assert_eq!(ended_behind(&e), Some((2, true, true)));
    let mut e = Wire::client_with(config());
    e.request(RR, data(120), 0);
    e.sent();
    e.receive(err(0, 0x101, b"no such frame"));
    assert_eq!(ended_behind(&e), Some((3, true, true)));
}

#[test]
fn an_item_that_left_in_fragments_is_known_and_whether_more_was_to_come() {
    let mut e = Wire::server_with(config());
    e.receive(rs(1, 9, "d"));
    e.events();
    e.send(1, data(60)).unwrap();
    e.send(1, data(60)).unwrap();
    e.sent();
    e.disconnect(None);
    assert_eq!(ended_behind(&e), Some((4, false, true)));
    // An answer that left whole may have been all that was wanted.
    let mut e = Wire::server_with(config());
    e.receive(rr(1, "d"));
    e.events();
    e.send(1, data(120)).unwrap();
    e.sent();
    e.disconnect(None);
    assert_eq!(ended_behind(&e), Some((3, false, false)));
}

#[test]
fn what_the_peer_goes_on_behind_is_not_why_it_ends() {
    // It is answered.
    let mut e = Wire::client_with(config());
    e.request(RR, data(120), 0);
    e.sent();
    e.receive(p(1, N | C, "r"));
    e.request(RR, data(120), 0);
    e.sent();
    e.disconnect(None);
    assert_eq!(ended_behind(&e), None);
    // Something else comes.
    let mut e = Wire::server_with(config());
    e.receive(rs(1, 9, "d"));
    e.events();
    e.send(1, data(60)).unwrap();
    e.sent();
    e.receive(rn(1, 1));
    e.disconnect(None);
    assert_eq!(ended_behind(&e), None);
    // It says goodbye, refuses SETUP, or we end it.
    for last in [err(0, 0x102, b""), err(0, 0x003, b"")] {
        let mut e = Wire::fresh_client(config());
        e.request(RR, data(120), 0);
        e.sent();
        e.receive(last);
        e.disconnect(None);
        assert_eq!(ended_behind(&e), None);
    }
    let mut e = Wire::client_with(config());
    e.request(RR, data(120), 0);
    e.sent();
    e.connection.end_with(ErrorCode::CONNECTION_ERROR, "enough");
    e.disconnect(None);
    assert_eq!(ended_behind(&e), None);
    // Nothing was cut.
    let mut e = Wire::client_with(config());
    e.request(RR, data(12), 0);
    e.sent();
    e.disconnect(None);
    assert_eq!(ended_behind(&e), None);
}

/// One answer to a KEEPALIVE may have crossed the fragments; what answers again is alive behind them.
#[test]
fn one_answer_to_a_keepalive_is_not_behind_the_fragments() {
    for (answers, expected) in [(1, Some((3, true, true))), (2, None)] {
        let mut e = Wire::fresh_client(config());
        e.request(RR, data(120), 0);
        e.sent();
        for _ in 0..answers {
            e.receive(ka(0, 0, b"1"));
        }
        e.disconnect(None);
        assert_eq!(ended_behind(&e), expected, "{answers}");
    }
}

#[test]
fn whoever_leaves_a_page_has_nothing_against_fragments() {
    for (code, expected) in [(1000, Some((2, false, true))), (1001, None)] {
        let mut e = Wire::server_with(config());
        e.receive(rs(1, 9, "d"));
        e.events();
        e.send(1, data(60)).unwrap();
        e.sent();
        let now = e.now;
        e.connection.handle_websocket_close(code, "".into(), now);
        assert_eq!(ended_behind(&e), expected, "{code}");
    }
}
