//! Frames apart from any connection.

use arbitrary::Unstructured;
use bytes::{Bytes, BytesMut};
use rsock_proto::{
    Violation,
    frame::{self, Frame, PREFIX_LEN},
};

/// Decodes any bytes. What can be decoded and sent says the same after it was encoded.
pub fn decode(data: &[u8]) {
    let Ok(mut frame) = Frame::decode(Bytes::copy_from_slice(data)) else { return };
    let encoded = encode(frame.clone());
    match &mut frame {
        Frame::Unknown { .. } | Frame::Misplaced { .. } => {
            assert!(encoded.is_empty(), "{frame:?} cannot be sent");
            return;
        }
        // PAY-05: neither NEXT nor COMPLETE counts as NEXT, and is sent so.
        Frame::Payload(payload) => payload.next |= !payload.complete,
        // ERR-03: what is not UTF-8 is replaced.
        Frame::Error { message, .. } => {
            *message = String::from_utf8_lossy(message).into_owned().into();
        }
        _ => {}
    }
    let again = Frame::decode(encoded.clone()).expect("what we encode is a frame");
    assert_eq!(again, frame);
    assert_eq!(encode(again), encoded, "encoding is a function of the frame");
}

fn encode(frame: Frame) -> Bytes {
    let mut encoded = BytesMut::new();
    frame.encode(&mut encoded);
    encoded.freeze()
}

/// Cuts a byte stream into frames: the same ones however it arrives.
pub fn deframe(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(max) = input.int_in_range(0..=2_000) else { return };
    let Ok(steps) = input.arbitrary::<[u8; 8]>() else { return };
    let stream = input.take_rest();

    let (whole, end) = frames(stream, max, |_| usize::MAX);
    let (split, split_end) = frames(stream, max, |turn| usize::from(steps[turn % steps.len()]));
    assert_eq!((&split, &split_end), (&whole, &end));
    assert_eq!(frames(stream, max, |_| 1), (split, split_end));

    let bytes: usize = whole.iter().map(|frame| PREFIX_LEN + frame.len()).sum();
    assert!(stream.starts_with(&prefixed(&whole)), "frames are what the stream holds");
    match end {
        End::Rest(rest) => {
            assert_eq!(rest, &stream[bytes..]);
            assert!(frame::needed(&rest).is_none_or(|needed| needed > rest.len()));
        }
        End::Violation(violation) => assert!(matches!(
            violation,
            Violation::FrameTooShort { .. } | Violation::FrameTooLong { .. }
        )),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The rest is not a whole frame yet.
    Rest(Vec<u8>),
    Violation(Violation),
}

/// The frames of a stream that arrives in pieces of `step` bytes.
fn frames(stream: &[u8], max: usize, step: impl Fn(usize) -> usize) -> (Vec<Bytes>, End) {
    let mut input = BytesMut::new();
    let mut frames = Vec::new();
    let (mut rest, mut turn) = (stream, 0);
    loop {
        loop {
            match frame::deframe(&mut input, frame::InputLimits::sharing(max)) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(violation) => return (frames, End::Violation(violation)),
            }
        }
        if rest.is_empty() {
            return (frames, End::Rest(input.to_vec()));
        }
        let (piece, behind) = rest.split_at(step(turn).clamp(1, rest.len()));
        input.extend_from_slice(piece);
        (rest, turn) = (behind, turn + 1);
    }
}

fn prefixed(frames: &[Bytes]) -> Vec<u8> {
    frames.iter().flat_map(|frame| rsock_wire::prefixed(frame)).collect()
}
