//! From a byte stream to whole frames: the u24 length prefix of TCP (TCP-01, TCP-02).

use bytes::{Buf, Bytes, BytesMut};

use crate::{
    error::Violation,
    frame::{codec::u24, header::HEADER_LEN},
};

/// The length of the prefix in bytes.
pub const PREFIX_LEN: usize = 3;

/// Limits of the frames that are taken off an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputLimits {
    /// The longest frame, in bytes.
    pub max_frame_bytes: usize,
    /// Frames of fewer bytes get memory of their own; longer ones are slices of the input's, and
    /// keep all of it for as long as any of them is held. 0 for slices alone.
    pub copy_below: usize,
}

impl InputLimits {
    /// Frames of at most so many bytes, all of them slices of the input's memory.
    pub const fn sharing(max_frame_bytes: usize) -> Self {
        Self { max_frame_bytes, copy_below: 0 }
    }
}

/// Takes `len` bytes off the front of `input`, which has as many: a slice of its memory, or memory
/// of their own if they are fewer than `copy_below`.
#[inline]
pub fn take_front(input: &mut BytesMut, len: usize, copy_below: usize) -> Bytes {
    if len < copy_below {
        let copied = Bytes::copy_from_slice(&input[..len]);
        input.advance(len);
        return copied;
    }
    input.split_to(len).freeze()
}

/// Takes the next whole frame off the front of `input`; `None` while it is incomplete.
///
/// The frame shares the input's memory unless `limits` say otherwise. A length the frame cannot have
/// fails at the prefix, before its body is waited for (TCP-05, FRAME-18).
///
/// # Errors
/// [`Violation::FrameTooShort`] below 6 bytes, [`Violation::FrameTooLong`] above `max_frame_bytes`.
#[inline]
pub fn deframe(input: &mut BytesMut, limits: InputLimits) -> Result<Option<Bytes>, Violation> {
    let Some(len) = announced(input) else {
        return Ok(None);
    };
    check_len(len, limits.max_frame_bytes)?;
    if input.len() < PREFIX_LEN + len {
        return Ok(None);
    }
    // The prefix goes with the frame and is dropped there, where that costs less.
    let mut frame = take_front(input, PREFIX_LEN + len, limits.copy_below);
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
                while let Some(frame) = deframe(&mut input, InputLimits::sharing(100)).unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [&b"abcdef"[..], b"ghijklm"], "cut at {cut}");
            assert!(input.is_empty());
        }
    }

    #[test]
    fn impossible_lengths_fail_at_the_prefix() {
        let limits = InputLimits::sharing(100);
        let short = deframe(&mut BytesMut::from(&b"\0\0\x05"[..]), limits);
        assert_eq!(short, Err(Violation::FrameTooShort { len: 5 }));
        let long = deframe(&mut BytesMut::from(&b"\0\0\x65"[..]), limits);
        assert_eq!(long, Err(Violation::FrameTooLong { len: 101, max: 100 }));
    }

    #[test]
    fn short_frames_leave_the_input_alone_where_they_are_to() {
        for (copy_below, shares) in [(0, true), (8, true), (9, true), (10, false), (100, false)] {
            let mut input = BytesMut::from(&b"\0\0\x06abcdef\0\0\x07ghijklm"[..]);
            let memory = input.as_ptr();
            let limits = InputLimits { max_frame_bytes: 100, copy_below };
            let frame = deframe(&mut input, limits).unwrap().expect("it is whole");
            assert_eq!((&frame[..], &input[..]), (&b"abcdef"[..], &b"\0\0\x07ghijklm"[..]));
            assert_eq!(frame.as_ptr() == memory.wrapping_add(PREFIX_LEN), shares, "{copy_below}");
        }
    }
}
