//! Leases, in both directions (LEASE).

use std::time::Duration;

use super::{
    peer::{FNF, RC, RR, RS, Wire},
    wire::{self, C, L, M, N, raw},
};
use crate::{Config, ControlError, RequestError, frame::Interaction};

fn with_leases() -> Config {
    Config { leases: true, ..Config::default() }
}

fn setup() -> wire::Bytes {
    wire::with(L, wire::setup())
}

fn lease(ttl: u32, n: u32) -> wire::Bytes {
    raw(0, 0x02, 0, &[&ttl.to_be_bytes(), &n.to_be_bytes()])
}

/// A server whose client asked for leases, and has none yet.
fn server() -> Wire {
    let mut e = Wire::fresh_server(with_leases());
    e.receive(setup());
    assert_eq!(e.events(), "Setup");
    e.connection.accept(e.now);
    e
}

/// A client that asked for leases, and has none yet.
fn client() -> Wire {
    let setup = crate::frame::Setup { lease: true, ..super::peer::setup() };
    let mut e = Wire::fresh_client_of(setup, Config::default());
    assert_eq!(e.sent(), "SETUP");
    e
}

fn grant(e: &mut Wire, requests: u32, ttl_ms: u64) {
    let ttl = Duration::from_millis(ttl_ms);
    e.connection.grant_lease(requests, ttl, None, e.now).expect("leases were agreed upon");
}

fn refused(e: &mut Wire, interaction: Interaction) -> bool {
    let n = u32::from(interaction.has_initial_n());
    match e.connection.request(interaction, "x".into(), n) {
        Ok(_) => false,
        Err(misuse) => {
            assert_eq!(misuse, RequestError::NoLease);
            true
        }
    }
}

#[test]
fn lease_01_02_05_a_grant_is_written_by_either_side() {
    for mut e in [server(), client()] {
        grant(&mut e, 3, 5_000);
        let frames = e.sent_frames();
        assert_eq!(frames.len(), 1);
        let expected = wire::lease(0);
        let granted = &frames[0];
        assert_eq!((granted.kind, granted.flags, granted.len), (0x02, 0, expected.len()));
        assert_eq!(e.connection.granted_permits(), Some(3));
    }
    let mut e = server();
    let metadata = Some("load=1".into());
    e.connection.grant_lease(1, Duration::from_secs(1), metadata, e.now).unwrap();
    let frames = e.sent_frames();
    assert!(frames[0].metadata.as_deref() == Some(b"load=1"), "{frames:?}");
}

#[test]
fn lease_03_04_nothing_is_asked_before_a_lease_comes() {
    for mut e in [server(), client()] {
        for interaction in [RR, FNF, RS, RC] {
            assert!(refused(&mut e, interaction));
        }
        assert_eq!(e.sent(), "");
        assert_eq!(e.connection.permits(), Some(0));
        e.receive(lease(10_000, 1));
        assert!(e.events().ends_with("Leased(10000,1)"));
        assert!(!refused(&mut e, RR));
        let id = if e.connection.role() == crate::Role::Client { 1 } else { 2 };
        assert_eq!(e.sent(), format!("RR({id},'x')"));
        assert!(refused(&mut e, RR));
    }
}

#[test]
fn lease_06_07_08_09_the_newest_counts_for_its_time() {
    let mut e = client();
    e.receive_all([lease(60_000, 5), lease(60_000, 1)]);
    assert!(!refused(&mut e, RR), "replaced and not added");
    assert!(refused(&mut e, RR));

    e.receive(lease(200, 5));
    assert!(!refused(&mut e, RR));
    e.advance(199);
    assert!(!refused(&mut e, RR));
    assert_eq!(e.deadline(), Some(1));
    e.advance(1);
    assert!(refused(&mut e, RR), "LEASE-07");

    for none in [lease(60_000, 0), lease(0, 5)] {
        e.receive(lease(60_000, 5));
        assert!(!refused(&mut e, RR));
        e.receive(none);
        assert!(refused(&mut e, RR), "LEASE-08");
    }
    e.receive(lease(60_000, 3));
    let opened = (0..10).filter(|_| !refused(&mut e, RR)).count();
    assert_eq!(opened, 3, "LEASE-09");
}

#[test]
fn lease_10_a_request_is_one_permit_whatever_it_is() {
    let config = Config { fragment_bytes: Some(64), ..Config::default() };
    let setup = crate::frame::Setup { lease: true, ..super::peer::setup() };
    let mut e = Wire::fresh_client_of(setup, config);
    e.sent();
    e.receive(lease(60_000, 4));
    for interaction in [RR, FNF, RS, RC] {
        let n = u32::from(interaction.has_initial_n());
        e.connection.request(interaction, vec![1; 200].into(), n).unwrap();
    }
    e.connection.push_metadata("m".into()).unwrap();
    e.connection.ping("p".into()).unwrap();
    assert!(e.sent_frames().len() > 16);
    assert_eq!(e.connection.permits(), Some(0));

    let mut e = server();
    grant(&mut e, 4, 60_000);
    let fragments = |first| [wire::with(wire::F, first), wire::p(1, N, "end")];
    e.receive_all(fragments(wire::rr(1, "a")));
    e.receive_all([wire::fnf(3, "a"), wire::rs(5, 1, "a"), wire::rc(7, 1, "a")]);
    e.receive_all([wire::rn(5, 2), wire::can(5), wire::p(7, C, ""), wire::mp("m")]);
    assert_eq!(e.connection.stats().requests_in, 4);
    assert_eq!(e.connection.granted_permits(), Some(0));
}

#[test]
fn lease_11_12_23_requests_beyond_it_are_refused_and_cost_nothing() {
    let mut e = server();
    e.receive(wire::rr(1, "early"));
    assert_eq!(e.sent(), "ERR(1,0x202)", "before the first lease");
    grant(&mut e, 2, 1_000);
    e.sent();
    e.receive_all([wire::rr(3, "a"), wire::rr(5, "b"), wire::rr(7, "c"), wire::fnf(9, "d")]);
    assert_eq!(e.events(), "Request(3,RR,'a') Request(5,RR,'b')");
    assert_eq!(e.sent(), "ERR(7,0x202)");
    grant(&mut e, 5, 1_000);
    e.sent();
    e.advance(1_051);
    e.receive(wire::rr(11, "late"));
    assert_eq!(e.sent(), "ERR(11,0x202)", "its time is over");
    grant(&mut e, 1, 1_000);
    e.sent();
    e.receive_all([wire::with(wire::F, wire::rr(13, "a")), wire::p(13, N, "b")]);
    assert_eq!(e.events(), "Request(13,RR,'ab')", "LEASE-23");
    let stats = e.connection.stats();
    assert_eq!((stats.refused_leases, stats.dropped_fire_and_forget), (4, 1));
}

#[test]
fn lease_13_can_07_open_streams_do_not_need_it() {
    let mut e = server();
    grant(&mut e, 1, 100);
    e.sent();
    e.receive(wire::rs(1, 1, "x"));
    e.events();
    e.send(1, "one").unwrap();
    grant(&mut e, 0, 0);
    e.advance(500);
    e.receive(wire::rn(1, 1));
    e.send(1, "two").unwrap();
    assert!(e.sent().ends_with("P(1,N,'one') P(1,N,'two')"));
    e.receive(wire::can(1));
    e.receive(wire::rr(3, "x"));
    assert_eq!(e.sent(), "ERR(3,0x202)", "CAN-07");
}

#[test]
fn lease_14_15_19_frames_that_are_no_lease_here() {
    for mut e in [Wire::server(), Wire::client()] {
        e.receive(lease(1_000, 1));
        e.receive(lease(0, 0));
        e.assert_silent("LEASE-14");
        e.fence("LEASE-14");
    }
    let mut e = client();
    e.receive(lease(60_000, 2));
    e.events();
    for none in [lease(1 << 31, 0), lease(1, 1 << 31), wire::lease(1), wire::lease(2)] {
        e.receive(none);
        e.assert_silent("LEASE-15, LEASE-19");
        assert_eq!(e.connection.permits(), Some(2));
    }
}

#[test]
fn lease_16_17_only_a_setup_that_asks_for_it_has_it() {
    let mut e = Wire::fresh_server(Config::default());
    e.receive(setup());
    e.assert_ended_with(0x002, "LEASE-16");

    let mut e = Wire::server_with(with_leases());
    assert_eq!(
        e.connection.grant_lease(1, Duration::from_secs(1), None, e.now),
        Err(ControlError::NoLeases)
    );
    e.fence("LEASE-17");
}

#[test]
fn lease_18_unx_02_no_lease_is_no_error() {
    let mut e = client();
    for _ in 0..100 {
        e.advance(1_000);
        assert!(e.sent().starts_with("KA(R,0"));
        e.receive(wire::ka(0, 0, b""));
    }
    assert!(refused(&mut e, RR));
    assert!(!e.connection.is_closed());
}

#[test]
fn lease_21_requests_that_cross_a_lease_count_against_the_one_before() {
    let mut e = server();
    grant(&mut e, 3, 10_000);
    grant(&mut e, 1, 10_000);
    e.sent();
    e.advance(49);
    e.receive_all([1, 3, 5, 7].map(|id| wire::rr(id, "x")));
    assert_eq!(e.connection.stats().requests_in, 4);
    e.receive(wire::rr(9, "x"));
    assert_eq!(e.sent(), "ERR(9,0x202)");

    let mut e = server();
    grant(&mut e, 3, 10_000);
    grant(&mut e, 0, 0);
    e.sent();
    e.advance(51);
    e.receive(wire::rr(1, "x"));
    assert_eq!(e.sent(), "ERR(1,0x202)", "and no longer than the grace");
}

#[test]
fn lease_22_its_metadata_reach_the_application() {
    let mut e = client();
    let with_metadata = raw(0, 0x02, M, &[&[0, 0, 3, 232], &[0, 0, 0, 1], b"meta"]);
    e.receive(with_metadata);
    assert_eq!(e.events(), "Established Leased(1000,1,b\"meta\")");
}

#[test]
fn h109_a_flood_of_leases_keeps_the_last() {
    let mut e = client();
    let flood: Vec<_> = (0..20_000)
        .map(|n| if n % 2 == 0 { lease(1, 0) } else { lease(60_000, wire::MAX) })
        .collect();
    e.receive_all(&flood);
    let events = e.events();
    assert_eq!(events.matches("Leased").count(), 20_000);
    assert_eq!(e.connection.permits(), Some(wire::MAX));
}
