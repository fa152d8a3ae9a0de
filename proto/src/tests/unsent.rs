//! Requests of which the peer cannot have received anything.

use bytes::Buf;

use super::{
    peer::{RR, RS, Wire},
    resume::limits,
    wire,
};
use crate::{Config, frame::Setup};

/// How much of what was written the transport has taken.
fn taken(e: &mut Wire) -> u64 {
    let mut taken = 0;
    e.with_buffer(|_, out| taken = out.taken());
    taken
}

/// The transport takes so many bytes.
fn take(e: &mut Wire, bytes: usize) {
    e.with_buffer(|connection, out| {
        connection.poll_transmit(out);
        out.advance(bytes);
    });
}

fn is_unsent(e: &Wire, id: u32, taken: Option<u64>) -> bool {
    e.connection.is_unsent(e.key(id), taken)
}

#[test]
fn a_request_that_no_transport_has_taken_a_byte_of_is_unsent() {
    for at_once in [true, false] {
        let mut e = Wire::client();
        let setup = taken(&mut e);
        for data in ["first", "second", "third"] {
            if at_once {
                e.request_now(RR, data, 0).expect("a request");
            } else {
                e.request(RR, data, 0);
            }
        }
        // A prefix and a header, and one byte of the second.
        take(&mut e, (3 + 6 + 5) + 1);
        let taken = taken(&mut e);
        assert_eq!(taken - setup, 15);
        for (id, expected) in [(1, false), (3, false), (5, true)] {
            assert_eq!(is_unsent(&e, id, Some(taken)), expected, "{id}");
            // The rest may leave yet.
            assert!(!is_unsent(&e, id, None), "{id}");
        }
        // What is written to nobody does not leave, however much there is of it.
        e.with_buffer(|_, out| out.discard());
        e.request_now(RR, "fourth", 0).expect("a request");
        take(&mut e, 0);
        assert!(is_unsent(&e, 7, Some(taken)));
        // It is known beyond the end, until it is freed.
        e.disconnect(None);
        assert!(!is_unsent(&e, 3, Some(taken)));
        assert!(is_unsent(&e, 5, Some(taken)) && is_unsent(&e, 7, Some(taken)));
        e.connection.free_some(100);
        assert!(!is_unsent(&e, 5, Some(taken)), "it is not known any more");
    }
}

#[test]
fn a_request_that_is_not_written_is_unsent() {
    let mut e = Wire::client_with(Config { fragment_bytes: Some(64), ..Config::default() });
    e.request(RR, "x".repeat(1_000), 0);
    e.request(RS, "y", 1);
    assert!(is_unsent(&e, 1, None) && is_unsent(&e, 3, None));
    // Of the first, a fragment is enough.
    e.with_buffer(|connection, out| {
        out.set_high_water(1);
        connection.poll_transmit(out);
    });
    assert!(!is_unsent(&e, 1, None) && is_unsent(&e, 3, None));
    assert!(is_unsent(&e, 1, Some(0)), "it waits in the buffer");
    e.disconnect(None);
    assert!(is_unsent(&e, 3, None), "and will not be written");
    // The peer's own requests are received.
    let mut e = Wire::server();
    e.receive(wire::rr(1, "x"));
    e.events();
    assert!(!is_unsent(&e, 1, Some(0)));
}

/// Frames of a session are kept for its next transport: what none of them was given is unsent.
#[test]
fn a_request_that_no_transport_of_its_session_was_given_is_unsent() {
    let setup = Setup { resume_token: Some(vec![0xAA].into()), ..super::peer::setup() };
    let mut e = Wire::fresh_client_of(setup, limits(1 << 20));
    assert_eq!(e.sent(), "SETUP");
    e.receive(wire::ka(0, 0, b""));
    e.events();
    e.request(RR, "given", 0);
    e.sent();
    let given = e.connection.positions().expect("a session").0;
    e.disconnect(None);
    e.events();
    e.request(RR, "kept", 0);
    e.sent();
    // Whatever a transport has taken: the session may have been given it by one before.
    for taken in [None, Some(0)] {
        assert!(!is_unsent(&e, 1, taken) && is_unsent(&e, 3, taken));
    }
    // It goes on, with nothing received: the first is written again, and nothing of the second.
    let now = e.now;
    e.connection.resume(now).expect("a suspended session");
    e.sent();
    assert!(is_unsent(&e, 3, None));
    e.receive(wire::raw(0, 0x0E, 0, &[&0_u64.to_be_bytes()]));
    assert_eq!(e.events(), "Resumed");
    e.with_buffer(|connection, out| {
        out.set_high_water(1);
        connection.poll_transmit(out);
    });
    assert!(!is_unsent(&e, 1, None) && is_unsent(&e, 3, None));
    // Once it has been given, it stays so, whatever the next transport is given again.
    e.sent();
    assert!(!is_unsent(&e, 3, None));
    e.disconnect(None);
    let now = e.now;
    e.connection.resume(now).expect("a suspended session");
    e.sent();
    e.receive(wire::raw(0, 0x0E, 0, &[&given.to_be_bytes()]));
    assert!(!is_unsent(&e, 3, None));
}
