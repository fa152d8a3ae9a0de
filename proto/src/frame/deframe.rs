//! From a byte stream to whole frames: the u24 length prefix of TCP (TCP-01, TCP-02).

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    error::Violation,
    frame::{codec::u24, header::HEADER_LEN},
};

/// The length of the prefix in bytes.
pub const PREFIX_LEN: usize = 3;

/// Takes the next whole frame off the front of `input`; `None` while it is incomplete.
///
/// The frame shares the input's memory. A length the frame cannot have fails at the prefix, before
/// its body is waited for (TCP-05, FRAME-18).
///
/// # Errors
/// [`Violation::FrameTooShort`] below 6 bytes, [`Violation::FrameTooLong`] above `max_frame_bytes`.
#[inline]
pub fn deframe(input: &mut BytesMut, max_frame_bytes: usize) -> Result<Option<Bytes>, Violation> {
    let Some(len) = announced(input) else {
        return Ok(None);
    };
    check_len(len, max_frame_bytes)?;
    if input.len() < PREFIX_LEN + len {
        return Ok(None);
    }
    // The prefix goes with the frame and is dropped there, where that costs less.
    let mut frame = input.split_to(PREFIX_LEN + len).freeze();
    frame.advance(PREFIX_LEN);
    Ok(Some(frame))
}

/// The bytes the frame at the front of `input` has with its prefix, once that much is known.
pub fn needed(input: &[u8]) -> Option<usize> {
    announced(input).map(|len| PREFIX_LEN + len)
}

#[inline]
fn announced(input: &[u8]) -> Option<usize> {
    let &[a, b, c] = input.first_chunk::<PREFIX_LEN>()?;
    Some(u24(a, b, c))
}

/// Whether a frame may have this length.
pub(crate) fn check_len(len: usize, max: usize) -> Result<(), Violation> {
    if len < HEADER_LEN {
        Err(Violation::FrameTooShort { len })
    } else if len > max {
        Err(Violation::FrameTooLong { len, max })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_for_any_split() {
        let wire = b"\0\0\x06abcdef\0\0\x07ghijklm";
        for cut in 0..=wire.len() {
            let mut input = BytesMut::new();
            let mut frames = Vec::new();
            for part in [&wire[..cut], &wire[cut..]] {
                input.extend_from_slice(part);
                while let Some(frame) = deframe(&mut input, 100).unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [&b"abcdef"[..], b"ghijklm"], "cut at {cut}");
            assert!(input.is_empty());
        }
    }

    #[test]
    fn impossible_lengths_fail_at_the_prefix() {
        let short = deframe(&mut BytesMut::from(&b"\0\0\x05"[..]), 100);
        assert_eq!(short, Err(Violation::FrameTooShort { len: 5 }));
        let long = deframe(&mut BytesMut::from(&b"\0\0\x65"[..]), 100);
        assert_eq!(long, Err(Violation::FrameTooLong { len: 101, max: 100 }));
    }
}
