//! The end of a connection, orderly and not (CONN).

use super::{
    peer::{FNF, RC, RR, RS, Wire},
    wire::*,
};
use crate::{ControlError, ErrorCode, RequestError};

/// An endpoint with one stream of each side open: the peer's RS, our RR.
fn busy(server: bool) -> (Wire, u32, u32) {
    let mut e = if server { Wire::server() } else { Wire::client() };
    let theirs = if server { 1 } else { 2 };
    e.receive(rs(theirs, 9, "d"));
    e.events();
    let ours = e.request(RR, "d", 0);
    e.sent();
    (e, theirs, ours)
}

#[test]
fn conn_01_connection_error_of_the_peer_ends_everything_at_once() {
    for server in [true, false] {
        let (mut e, theirs, ours) = busy(server);
        e.send(theirs, "unwritten").unwrap();
        // H129: what follows is ignored, in the same read too.
        e.receive_all([err(0, 0x101, b"bad"), ka(R, 0, b"late"), p(ours, N | C, "late")]);
        assert_eq!(e.events(), "Closed(peer,0x101,'bad')");
        assert!(!e.is_open(theirs) && !e.is_open(ours));
        e.assert_dead();
    }
}

#[test]
fn conn_02_03_connection_close_of_the_peer_lets_streams_end() {
    for server in [true, false] {
        let (mut e, theirs, ours) = busy(server);
        e.receive(err(0, 0x102, b"rolling over"));
        assert_eq!(e.events(), "Draining('rolling over')");
        e.assert_silent("CONN-02");
        // CONN-03: nothing new, in either direction.
        let refused = e.connection.request(RR, "d".into(), 0);
        assert_eq!(refused, Err(RequestError::Closed));
        assert_eq!(e.connection.push_metadata("m".into()), Err(ControlError::Closed));
        assert_eq!(e.connection.ping("p".into()), Err(ControlError::Closed));
        e.receive_all([rr(theirs + 4, "d"), rs(theirs + 6, 1, "d"), fnf(theirs + 8, "d")]);
        assert_eq!(e.events(), "");
        let [a, b] = [theirs + 4, theirs + 6];
        assert_eq!(e.sent(), format!("ERR({a},0x202) ERR({b},0x202)"));
        // What runs goes on.
        e.receive(rn(theirs, 1));
        e.send(theirs, "item").unwrap();
        assert_eq!(e.sent(), format!("P({theirs},N,'item')"));
        e.receive(p(ours, N | C, "answer"));
        assert_eq!(e.events(), format!("Item({ours},'answer',last)"));
        e.stream(theirs).complete().unwrap();
        assert_eq!(e.sent(), format!("P({theirs},C)"));
        assert_eq!(e.events(), "Closed(Peer)");
        e.assert_dead();
    }
}

#[test]
fn conn_02_without_streams_it_closes_at_once() {
    for mut e in [Wire::server(), Wire::client()] {
        e.receive(err(0, 0x102, b"bye"));
        assert_eq!(e.events(), "Draining('bye') Closed(Peer)");
        assert_eq!(e.sent(), "");
        e.assert_dead();
    }
}

#[test]
fn conn_04_our_drain_lets_streams_end_and_then_says_so() {
    for server in [true, false] {
        let (mut e, theirs, ours) = busy(server);
        e.connection.drain();
        e.connection.drain();
        e.assert_silent("CONN-04");
        let refused = e.connection.request(RR, "d".into(), 0);
        assert_eq!(refused, Err(RequestError::Closed));
        e.receive(rr(theirs + 4, "d"));
        assert_eq!(e.sent(), format!("ERR({},0x202)", theirs + 4));
        e.receive(ka(R, 0, b"k"));
        assert_eq!(e.sent(), "KA(0,'k')");
        e.receive(p(ours, N | C, "a"));
        assert_eq!(e.events(), format!("Item({ours},'a',last)"));
        e.send_last(theirs, "z").unwrap();
        assert_eq!(e.sent(), format!("P({theirs},N+C,'z') ERR(0,0x102)"));
        assert_eq!(e.events(), "Closed(Local)");
        e.assert_dead();
    }
}

/// The reason is in all that is said of it.
#[test]
fn conn_04_what_a_drain_refuses_is_told_why() {
    for (words, refusal, end) in
        [(None, "the connection is closing", "closed"), (Some("bye"), "bye", "bye")]
    {
        let (mut e, theirs, _) = busy(true);
        if let Some(words) = words {
            e.connection.set_parting_words(words);
        }
        e.connection.drain();
        e.receive(rr(theirs + 4, "d"));
        assert_eq!(e.sent_frames().pop().expect("an ERROR").data, refusal.as_bytes());
        e.connection.close();
        assert_eq!(e.sent_frames().pop().expect("an ERROR").data, end.as_bytes());
    }
}

#[test]
fn conn_04_a_drain_of_an_idle_connection_is_immediate() {
    for mut e in [Wire::server(), Wire::client()] {
        e.connection.drain();
        assert_eq!(e.events(), "Closed(Local)");
        assert_eq!(e.sent(), "ERR(0,0x102)");
        e.assert_dead();
    }
}

#[test]
fn conn_04_a_drain_writes_what_was_given_before_it() {
    let mut e = Wire::fresh_client(crate::Config::default());
    e.request(FNF, "last", 0);
    e.connection.push_metadata("m".into()).unwrap();
    e.connection.drain();
    assert_eq!(e.sent(), "SETUP MP('m') FNF(1,'last') ERR(0,0x102)");
    assert_eq!(e.events(), "Completed(1) Closed(Local)");
    e.assert_dead();
}

#[test]
fn conn_03_a_refusal_is_written_before_the_end() {
    let (mut e, theirs, ours) = busy(true);
    e.connection.drain();
    // The last stream ends in the same read in which a request has to be refused.
    e.receive_all([rr(theirs + 4, "d"), p(ours, C, ""), can(theirs)]);
    assert_eq!(e.sent(), "ERR(5,0x202) ERR(0,0x102)");
    let events = format!("Completed({ours}) Cancelled({theirs}) Closed(Local)");
    assert_eq!(e.events(), events);
    e.assert_dead();
}

#[test]
fn closed_is_the_last_event_however_the_last_stream_ends() {
    type Ending = fn(&mut Wire);
    let endings: [(&str, Ending, &str); 9] = [
        ("peer's CANCEL", |e| e.receive(can(1)), "Cancelled(1)"),
        ("ERROR", |e| e.receive(err(2, 0x201, b"")), "Failed(2,0x201,'')"),
        ("item", |e| e.receive(p(2, N | C, "x")), "Item(2,'x',last)"),
        ("COMPLETE", |e| e.receive(p(2, C, "")), "Completed(2)"),
        ("our CANCEL", |e| e.stream(2).cancel(), ""),
        ("answer", |e| e.send_last(1, "x").unwrap(), ""),
        ("our ERROR", |e| e.fail(1, 0x201).unwrap(), ""),
        ("handler", |e| e.stream(1).complete().unwrap(), ""),
        (
            "CANCEL of a channel",
            |e| e.receive_all([p(2, C, ""), can(2)]),
            "Completed(2) Cancelled(2)",
        ),
    ];
    for (name, end, event) in endings {
        for by_peer in [false, true] {
            let mut e = Wire::server();
            match name {
                "peer's CANCEL" | "answer" | "our ERROR" => e.receive(rr(1, "d")),
                "handler" => e.receive(fnf(1, "d")),
                "CANCEL of a channel" => drop(e.request(RC, "d", 1)),
                _ => drop(e.request(RS, "d", 1)),
            }
            e.events();
            e.sent();
            if by_peer {
                e.receive(err(0, 0x102, b""));
                assert_eq!(e.events(), "Draining('')");
            } else {
                e.connection.drain();
            }
            e.assert_silent(name);
            end(&mut e);
            let sent = e.sent();
            assert_eq!(sent.ends_with("ERR(0,0x102)"), !by_peer, "{name}: {sent}");
            let side = if by_peer { "Peer" } else { "Local" };
            let expected = format!("{event} Closed({side})");
            assert_eq!(e.events(), expected.trim_start(), "{name}");
            e.assert_dead();
        }
    }
}

#[test]
fn both_sides_drain() {
    let (mut e, theirs, ours) = busy(true);
    e.connection.drain();
    e.receive(err(0, 0x102, b""));
    e.receive(p(ours, C, ""));
    assert_eq!(e.events(), format!("Draining('') Completed({ours})"));
    e.stream(theirs).complete().unwrap();
    // The peer knows already.
    assert_eq!(e.sent(), format!("P({theirs},C)"));
    assert_eq!(e.events(), "Closed(Peer)");
    e.assert_dead();
}

#[test]
fn conn_09_close_is_told_and_immediate() {
    for server in [true, false] {
        let (mut e, theirs, _) = busy(server);
        e.send(theirs, "unwritten").unwrap();
        e.connection.close();
        assert!(!e.is_open(theirs));
        e.receive(ka(R, 0, b"late"));
        assert_eq!(e.events(), "Closed(Local)");
        assert_eq!(e.sent(), "ERR(0,0x102)");
        e.connection.close();
        e.connection.drain();
        e.assert_dead();
        assert_eq!(e.connection.push_metadata("m".into()), Err(ControlError::Closed));
        let refused = e.connection.request(RR, "d".into(), 0);
        assert_eq!(refused, Err(RequestError::Closed));
    }
}

#[test]
fn end_with_a_code_of_choice() {
    let (mut e, ..) = busy(true);
    e.connection.end_with(ErrorCode::CONNECTION_ERROR, "too slow");
    e.assert_ended_with(0x101, "end_with");
}

#[test]
fn a_server_closed_before_setup_has_nobody_to_tell() {
    for close in [crate::Connection::close, crate::Connection::drain] {
        let mut e = Wire::fresh_server(crate::Config::default());
        close(&mut e.connection);
        assert_eq!(e.sent(), "");
        assert_eq!(e.events(), "Closed(Local)");
        e.assert_dead();
        // While the acceptor thinks, the client is there to be told.
        let mut e = Wire::fresh_server(crate::Config::default());
        e.receive(setup());
        close(&mut e.connection);
        assert_eq!(e.sent(), "ERR(0,0x102)");
        assert_eq!(e.events(), "Setup Closed(Local)");
        e.assert_dead();
    }
}

#[test]
fn conn_05_loss_of_the_transport_ends_everything() {
    for (error, event) in [(None, "Closed(Disconnected)"), (Some("reset"), "Closed(Io,'reset')")] {
        let (mut e, theirs, ours) = busy(true);
        e.send(theirs, "unwritten").unwrap();
        e.receive_bytes(&prefixed(&rr(9, "cut"))[..5]); // TCP-03
        e.disconnect(error);
        assert!(!e.is_open(theirs) && !e.is_open(ours));
        assert_eq!(e.events(), event);
        e.disconnect(None);
        e.assert_silent("again");
        e.assert_idle();
    }
}

/// However the transport ends behind it: what is cut off learns the peer's reason (CONN-02, CONN-05).
#[test]
fn conn_02_the_peers_reason_outlives_its_transport() {
    for error in [None, Some("reset")] {
        for server in [true, false] {
            let (mut e, ..) = busy(server);
            e.receive(err(0, 0x102, b"rolling over"));
            e.receive(err(0, 0x102, b"again"));
            e.disconnect(error);
            let events = "Draining('rolling over') Closed(peer,0x102,'rolling over')";
            assert_eq!(e.events(), events);
            e.assert_idle();
            // Nothing was cut off: it ends as it was to.
            let mut e = if server { Wire::server() } else { Wire::client() };
            e.connection.ping("p".into()).unwrap();
            e.connection.push_metadata("m".into()).unwrap();
            e.receive(err(0, 0x102, b"bye"));
            e.disconnect(error);
            assert_eq!(e.events(), "Draining('bye') Closed(Peer)");
        }
    }
}

/// A peer that is silent after its last words.
#[test]
fn conn_02_ka_10_silence_after_the_peers_reason() {
    let (mut e, ..) = busy(true);
    e.receive(err(0, 0x102, b"rolling over"));
    e.events();
    e.advance(1_000_000);
    assert_eq!(e.events(), "Closed(peer,0x102,'rolling over')");
    assert_eq!(e.sent(), "");
    e.assert_dead();
}

/// What is ignored where it came is still the reason if the transport ends right behind it
/// (SETUP-25, CONN-06).
#[test]
fn conn_06_an_ignored_error_right_before_the_end_is_the_reason() {
    for code in [1, 3, 4, 0x201, 0x301] {
        let (mut e, ..) = busy(false);
        e.receive(err(0, code, b"overloaded"));
        e.disconnect(Some("reset"));
        assert_eq!(e.events(), format!("Closed(peer,{code:#x},'overloaded')"));
        // It was not meant so: more came.
        let (mut e, ..) = busy(false);
        e.receive_all([err(0, code, b"overloaded"), ka(0, 0, b"")]);
        e.events();
        e.disconnect(None);
        assert_eq!(e.events(), "Closed(Disconnected)");
    }
}

#[test]
fn frame_24_a_violation_is_said_once() {
    let (mut e, ..) = busy(true);
    e.receive_all([raw(1, 0x20, 0, &[]), raw(1, 0x20, 0, &[]), err(0, 0x101, b"")]);
    e.advance(1_000_000);
    e.disconnect(None);
    // The transport went before the words were written.
    assert_eq!(e.events(), "Closed(UnknownFrame { frame_type: 32 })");
    assert_eq!(e.sent(), "");
    e.assert_dead();
    let (mut e, ..) = busy(true);
    e.receive_all([raw(1, 0x20, 0, &[]), raw(1, 0x20, 0, &[])]);
    e.assert_ended_with(0x101, "FRAME-24");
}

#[test]
fn mdp_01_02_pushes_go_both_ways() {
    for mut e in [Wire::server(), Wire::client()] {
        e.connection.push_metadata("m".into()).unwrap();
        let [frame] = &e.sent_frames()[..] else {
            panic!("one frame");
        };
        assert_eq!((frame.stream, frame.kind, frame.flags), (0, 0x0C, M));
        assert_eq!(frame.data, b"m");
        e.receive(mp("x"));
        assert_eq!(e.events(), "Push('x')");
        e.assert_silent("MDP-02");
    }
}
