//! Encoding and decoding against golden vectors: bytes written by hand.

use bytes::{Bytes, BytesMut};

use super::*;
use crate::error::ErrorCode;

fn hex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn stream(id: u32) -> StreamId {
    StreamId::new(id).unwrap()
}

fn request(id: u32, interaction: Interaction, initial_n: u32, payload: Payload) -> Request {
    let stream = stream(id);
    Request { stream, interaction, follows: false, complete: false, initial_n, payload }
}

fn payload_frame(follows: bool, next: bool, complete: bool, payload: Payload) -> Frame {
    Frame::Payload(PayloadFrame { stream: stream(1), follows, next, complete, payload })
}

fn setup() -> Setup {
    Setup {
        version: VERSION,
        keepalive_interval_ms: 20_000,
        max_lifetime_ms: 90_000,
        resume_token: None,
        lease: false,
        metadata_mime: "a/b".into(),
        data_mime: "c/d".into(),
        payload: Payload::new(&[2u8, 3][..]).with_metadata(&[1u8][..]),
    }
}

fn golden() -> Vec<(&'static str, Frame)> {
    let resumable = Setup {
        keepalive_interval_ms: 500,
        max_lifetime_ms: 1500,
        resume_token: Some(hex("aabb")),
        lease: true,
        metadata_mime: "x".into(),
        data_mime: "x".into(),
        payload: Payload::default(),
        ..setup()
    };
    let resume = Resume {
        version: VERSION,
        token: hex("aabb"),
        last_received_server_position: 8,
        first_available_client_position: 0,
    };
    let channel =
        Request { complete: true, ..request(9, Interaction::RequestChannel, 1, "d".into()) };
    let error = |stream, code, message| Frame::Error { stream, code, message };
    let with_metadata = Payload::new("d").with_metadata("m");
    vec![
        (
            "00000000 0500 0001 0000 00004e20 00015f90 03 612f62 03 632f64 000001 01 0203",
            Frame::Setup(Box::new(setup())),
        ),
        (
            "00000000 04c0 0001 0000 000001f4 000005dc 0002 aabb 01 78 01 78",
            Frame::Setup(Box::new(resumable)),
        ),
        (
            "00000000 0900 00001388 00000003 ff",
            Frame::Lease(Lease { ttl_ms: 5000, requests: 3, metadata: Some(hex("ff")) }),
        ),
        (
            "00000000 0c80 0000000000000102 6869",
            Frame::KeepAlive(KeepAlive { respond: true, position: 258, data: "hi".into() }),
        ),
        (
            "00000001 1100 000001 6d 64",
            Frame::Request(request(1, Interaction::RequestResponse, 0, with_metadata.clone())),
        ),
        (
            "00000003 1100 000000 64",
            Frame::Request(request(
                3,
                Interaction::RequestResponse,
                0,
                Payload::new("d").with_metadata(""),
            )),
        ),
        ("00000005 1400 64", Frame::Request(request(5, Interaction::FireAndForget, 0, "d".into()))),
        (
            "00000007 1800 7fffffff",
            Frame::Request(request(7, Interaction::RequestStream, MAX_U31, Payload::default())),
        ),
        ("00000009 1c40 00000001 64", Frame::Request(channel)),
        ("00000009 2000 00000010", Frame::RequestN { stream: stream(9), n: 16 }),
        ("00000009 2400", Frame::Cancel { stream: stream(9) }),
        ("00000001 2860 6f6b", payload_frame(false, true, true, "ok".into())),
        ("00000001 2840", payload_frame(false, false, true, Payload::default())),
        ("00000001 29a0 000001 6d 64", payload_frame(true, true, false, with_metadata)),
        (
            "00000001 2c00 00000201 6e6f",
            error(Some(stream(1)), ErrorCode::APPLICATION_ERROR, "no".into()),
        ),
        ("00000000 2c00 00000003", error(None, ErrorCode::REJECTED_SETUP, Bytes::new())),
        ("00000000 3100 6d", Frame::MetadataPush { metadata: "m".into() }),
        (
            "00000000 3400 0001 0000 0002 aabb 0000000000000008 0000000000000000",
            Frame::Resume(Box::new(resume)),
        ),
        ("00000000 3800 0000000000000014", Frame::ResumeOk { last_received_client_position: 20 }),
        (
            "00000000 fe00 00000001",
            Frame::Ext(Ext { stream: None, ignorable: true, extended_type: 1, body: Bytes::new() }),
        ),
    ]
}

#[test]
fn golden_vectors_decode() {
    for (wire, frame) in golden() {
        assert_eq!(Frame::decode(hex(wire)), Ok(frame), "{wire}");
    }
}

#[test]
fn golden_vectors_encode() {
    for (wire, frame) in golden() {
        let mut out = BytesMut::new();
        frame.encode(&mut out);
        assert_eq!(out, hex(wire), "{wire}");
    }
}

#[test]
fn metadata_that_does_not_fit_is_a_violation_unless_ignorable() {
    for (flags, ignorable) in [("1100", false), ("1300", true)] {
        for body in ["", "00", "0000", "000063 aabbcc", "ffffff 00"] {
            let malformed = Frame::decode(hex(&format!("00000001 {flags} {body}"))).unwrap_err();
            assert!(matches!(malformed.violation, Violation::MetadataLength { .. }), "{body}");
            assert_eq!(malformed.ignorable, ignorable);
        }
    }
}

#[test]
fn fixed_parts_cut_short_are_truncated() {
    for wire in [
        "00000001 1800 000000", // REQUEST_STREAM, 3 of 4 bytes of n
        "00000001 1c00",
        "00000001 2000 0000",
        "00000001 2c00 000002",
        "00000000 2c00",
        "00000000 0c00 00000000",
        "00000000 0800 0000138800000000",
        "00000000 3800 00",
        "00000000 fc00 00",
    ] {
        let wire = hex(wire);
        let cut = if wire.len() > 13 { wire.slice(..13) } else { wire };
        let result = Frame::decode(cut.clone());
        assert!(
            matches!(result, Err(Malformed { violation: Violation::Truncated { .. }, .. })),
            "{cut:?}: {result:?}"
        );
    }
}

#[test]
fn a_setup_cut_anywhere_before_its_data_is_malformed() {
    let (wire, _) = golden().remove(0);
    let whole = hex(wire);
    for len in HEADER_LEN..whole.len() - 2 {
        let malformed = Frame::decode(whole.slice(..len)).unwrap_err();
        assert_eq!(malformed.violation.code(), ErrorCode::INVALID_SETUP, "at {len}");
    }
}

#[test]
fn undefined_flags_and_surplus_bytes_are_ignored() {
    let cancel = Frame::decode(hex("00000001 25ff 0102")).unwrap();
    assert_eq!(cancel, Frame::Cancel { stream: stream(1) });
    let request_n = Frame::decode(hex("00000001 2000 00000002 ffffffff")).unwrap();
    assert_eq!(request_n, Frame::RequestN { stream: stream(1), n: 2 });
    // FRAME-12: the metadata bit means nothing on KEEPALIVE.
    let keepalive = Frame::decode(hex("00000000 0d80 0000000000000000 000002616263")).unwrap();
    let data = hex("000002616263");
    assert_eq!(keepalive, Frame::KeepAlive(KeepAlive { respond: true, position: 0, data }));
}

#[test]
fn the_reserved_stream_id_bit_is_never_masked_away() {
    for id in ["80000000", "80000001", "ffffffff"] {
        let malformed = Frame::decode(hex(&format!("{id} 1000 64"))).unwrap_err();
        assert_eq!(malformed.violation, Violation::ReservedStreamIdBit);
    }
}

#[test]
fn every_type_and_flag_pattern_has_a_defined_outcome() {
    for word in 0..=u16::MAX {
        for id in [0u32, 1, 2] {
            let mut frame = BytesMut::new();
            frame.extend_from_slice(&id.to_be_bytes());
            frame.extend_from_slice(&word.to_be_bytes());
            for body in [0usize, 3, 14, 40] {
                frame.resize(HEADER_LEN + body, 0xA5);
                let _ = Frame::decode(frame.clone().freeze());
            }
        }
    }
}
