//! Frames in the log, one line each.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use rsock::{Direction, FrameTap, frame::Frame};
use tracing::Level;

/// The target of these lines: `--log rsock::frames=trace` shows nothing but them at trace.
const TARGET: &str = "rsock::frames";

/// Logs every frame, if the log is to have them; otherwise they are not looked at.
pub(crate) fn tap() -> Option<FrameTap> {
    tracing::enabled!(target: TARGET, Level::TRACE).then(|| -> FrameTap {
        Arc::new(|peer, direction, frame| {
            let direction = match direction {
                Direction::In => "in ",
                Direction::Out => "out",
            };
            tracing::trace!(target: TARGET, peer, "{direction} {}", Line(&frame));
        })
    })
}

/// A frame as a line: what it is, and how long its parts are.
struct Line<'a>(&'a Bytes);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Frame::decode(self.0.clone()) {
            Ok(frame) => frame.fmt(f),
            Err(malformed) => write!(f, "malformed, {} B: {}", self.0.len(), malformed.violation),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_a_line_whether_or_not_they_are_a_frame() {
        for (bytes, expected) in [
            (&b"\0\0\0\x01\x28\x60abc"[..], "PAYLOAD stream=1 [NC] 3 B"),
            (b"\0\0\0", "malformed, 3 B: a frame of 3 bytes; a frame header has 6"),
        ] {
            assert_eq!(Line(&Bytes::from_static(bytes)).to_string(), expected);
        }
    }
    /// AUTH-12
    #[test]
    fn credentials_are_not_logged() {
        let metadata = b"\xfc\0\0\x0c\x80\0\x03annsecret"[..].to_vec();
        let setup: &[u8] = b"\0\0\0\0\x05\0\0\x01\0\0\0\0\x4e\x20\0\x01\x5f\x90\x01a\x01b\0\0\x10";
        let request: &[u8] = b"\0\0\0\x01\x11\0\0\0\x10";
        let push: &[u8] = b"\0\0\0\0\x31\0";
        for (head, expected) in [
            (setup, "SETUP version=1.0 keepalive=20000ms/90000ms metadata=a data=b"),
            (request, "REQUEST_RESPONSE stream=1"),
            (push, "METADATA_PUSH"),
        ] {
            let frame = [head, &metadata].concat();
            let line = Line(&frame.into()).to_string();
            assert!(line.starts_with(expected) && line.contains(" 16 B"), "{line}");
            assert!(!line.contains("secret"), "{line}");
        }
    }
}
