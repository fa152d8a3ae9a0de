//! Frames in the log, one line each.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use rsock::{
    Direction, FrameTap, Payload, Printable,
    frame::{Frame, Request},
    proto::Interaction,
};
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
            Ok(frame) => line(&frame, f),
            Err(malformed) => write!(f, "malformed, {} B: {}", self.0.len(), malformed.violation),
        }
    }
}

fn line(frame: &Frame, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match frame {
        Frame::Setup(setup) => {
            write!(
                f,
                "SETUP keepalive={}ms lifetime={}ms metadata-type={} data-type={}{}{}",
                setup.keepalive_interval_ms,
                setup.max_lifetime_ms,
                setup.metadata_mime.escape_ascii(),
                setup.data_mime.escape_ascii(),
                flag(setup.lease, " lease"),
                flag(setup.resume_token.is_some(), " resume"),
            )?;
            sizes(&setup.payload, f)
        }
        Frame::Lease(lease) => write!(f, "LEASE ttl={}ms n={}", lease.ttl_ms, lease.requests),
        Frame::KeepAlive(keepalive) => write!(
            f,
            "KEEPALIVE position={} data={}B{}",
            keepalive.position,
            keepalive.data.len(),
            flag(keepalive.respond, " respond"),
        ),
        Frame::Request(request) => {
            write!(f, "{} stream={}", request_name(request.interaction), request.stream)?;
            if has_credit(request) {
                write!(f, " n={}", request.initial_n)?;
            }
            sizes(&request.payload, f)?;
            write!(
                f,
                "{}{}",
                flag(request.complete, " complete"),
                flag(request.follows, " follows")
            )
        }
        Frame::RequestN { stream, n } => write!(f, "REQUEST_N stream={stream} n={n}"),
        Frame::Cancel { stream } => write!(f, "CANCEL stream={stream}"),
        Frame::Payload(item) => {
            write!(f, "PAYLOAD stream={}", item.stream)?;
            sizes(&item.payload, f)?;
            write!(
                f,
                "{}{}{}",
                flag(item.next, " next"),
                flag(item.complete, " complete"),
                flag(item.follows, " follows"),
            )
        }
        Frame::Error { stream, code, message } => {
            f.write_str("ERROR")?;
            if let Some(stream) = stream {
                write!(f, " stream={stream}")?;
            }
            let shown = &message[..message.len().min(MAX_MESSAGE)];
            write!(f, " {code} \"{}\"", Printable(String::from_utf8_lossy(shown)))
        }
        Frame::MetadataPush { metadata } => write!(f, "METADATA_PUSH metadata={}B", metadata.len()),
        Frame::Resume(resume) => write!(f, "RESUME token={}B", resume.token.len()),
        Frame::ResumeOk { last_received_client_position } => {
            write!(f, "RESUME_OK position={last_received_client_position}")
        }
        Frame::Ext(ext) => write!(f, "EXT type={} body={}B", ext.extended_type, ext.body.len()),
        // Unknown and misplaced frames, of which no more is known than their type.
        other => write!(f, "{other:?}"),
    }
}

/// Bytes of an error's text that a line shows.
const MAX_MESSAGE: usize = 200;

fn sizes(payload: &Payload, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if let Some(metadata) = &payload.metadata {
        write!(f, " metadata={}B", metadata.len())?;
    }
    write!(f, " data={}B", payload.data.len())
}

fn flag(is_set: bool, name: &'static str) -> &'static str {
    if is_set { name } else { "" }
}

fn request_name(interaction: Interaction) -> &'static str {
    match interaction {
        Interaction::FireAndForget => "REQUEST_FNF",
        Interaction::RequestResponse => "REQUEST_RESPONSE",
        Interaction::RequestStream => "REQUEST_STREAM",
        Interaction::RequestChannel => "REQUEST_CHANNEL",
    }
}

fn has_credit(request: &Request) -> bool {
    matches!(request.interaction, Interaction::RequestStream | Interaction::RequestChannel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_a_line() {
        for (frame, expected) in [
            (
                &b"\0\0\0\x01\x19\0\0\0\0\x05\0\0\x02ab12"[..],
                "REQUEST_STREAM stream=1 n=5 metadata=2B data=2B",
            ),
            (b"\0\0\0\x01\x28\x60abc", "PAYLOAD stream=1 data=3B next complete"),
            (b"\0\0\0\x01\x20\0\0\0\0\x07", "REQUEST_N stream=1 n=7"),
            (b"\0\0\0\x01\x24\0", "CANCEL stream=1"),
            (b"\0\0\0\x01\x2c\0\0\0\x02\x02no", "ERROR stream=1 REJECTED \"no\""),
            (b"\0\0\0\0\x0c\x80\0\0\0\0\0\0\0\0", "KEEPALIVE position=0 data=0B respond"),
            (b"\0\0\0", "malformed, 3 B: "),
        ] {
            let line = Line(&Bytes::from_static(frame)).to_string();
            assert!(line.starts_with(expected), "{line}");
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
            (setup, "SETUP keepalive=20000ms lifetime=90000ms metadata-type=a data-type=b"),
            (request, "REQUEST_RESPONSE stream=1"),
            (push, "METADATA_PUSH"),
        ] {
            let frame = [head, &metadata].concat();
            let line = Line(&frame.into()).to_string();
            assert!(line.starts_with(expected) && line.contains("metadata=16B"), "{line}");
            assert!(!line.contains("secret"), "{line}");
        }
    }
}
