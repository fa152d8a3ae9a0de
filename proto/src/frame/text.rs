//! Frames as text, for logs: what they are and how large, without what may be secret.

use std::fmt;

use crate::{
    error::ErrorCode,
    frame::{Ext, Frame, KeepAlive, Lease, PayloadFrame, Request, Resume, Setup, StreamId},
    payload::Payload,
    printable::Printable,
};

/// Bytes of an error's text that are shown.
const MAX_ERROR_TEXT: usize = 1 << 10;

/// A line: the type, its fields, the flags as `[FNC]` (follows, next, complete), and how long its
/// data and metadata are. What they say is not shown, nor are tokens: they may be secrets (AUTH-12).
///
/// ```
/// # use rsock_proto::frame::Frame;
/// let frame = Frame::decode(b"\0\0\0\x01\x19\0\0\0\0\x05\0\0\x02ab123"[..].into()).unwrap();
/// assert_eq!(frame.to_string(), "REQUEST_STREAM stream=1 n=5 3 B + 2 B metadata");
/// ```
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.annotated("").fmt(f)
    }
}

impl Frame {
    /// The frame as text, with this between its fields and the sizes of its payload, if it has one.
    pub fn annotated<'a>(&'a self, note: &'a str) -> impl fmt::Display + 'a {
        Annotated { frame: self, note }
    }

    fn write(&self, note: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Self::Error { stream: None, code: ErrorCode::CONNECTION_CLOSE, message } = self {
            // The end of every connection that ends well: not what a reader of a log looks for as an error.
            return write!(f, "{}: {}", ErrorCode::CONNECTION_CLOSE, error_text(message));
        }
        f.write_str(self.name())?;
        match self {
            Self::Setup(setup) => {
                let Setup { version: (major, minor), keepalive_interval_ms, .. } = &**setup;
                let Setup { max_lifetime_ms, metadata_mime, data_mime, payload, .. } = &**setup;
                write!(f, " version={major}.{minor}")?;
                write!(f, " keepalive={keepalive_interval_ms}ms/{max_lifetime_ms}ms")?;
                write!(f, " metadata={} data={}", text(metadata_mime), text(data_mime))?;
                write_if(setup.resume_token.is_some(), " resume", f)?;
                write_if(setup.lease, " lease", f)?;
                write!(f, "{note} {}", Size(payload))
            }
            Self::Request(request) => {
                let Request { stream, interaction, follows, complete, initial_n, payload } =
                    request;
                write!(f, " stream={stream}")?;
                write_flags(&[(*follows, "F"), (*complete, "C")], f)?;
                if interaction.has_initial_n() {
                    write!(f, " n={initial_n}")?;
                }
                write!(f, "{note} {}", Size(payload))
            }
            Self::Payload(PayloadFrame { stream, follows, next, complete, payload }) => {
                write!(f, " stream={stream}")?;
                write_flags(&[(*follows, "F"), (*next, "N"), (*complete, "C")], f)?;
                write!(f, "{note} {}", Size(payload))
            }
            Self::RequestN { stream, n } => write!(f, " stream={stream} n={n}"),
            Self::Cancel { stream } => write!(f, " stream={stream}"),
            Self::Error { stream, code, message } => {
                write!(f, " stream={} {code}: {}", number(*stream), error_text(message))
            }
            Self::KeepAlive(KeepAlive { respond, position, data }) => {
                write_if(*respond, " [R]", f)?;
                write!(f, " position={position} {} B", data.len())
            }
            Self::MetadataPush { metadata } => write!(f, " {} B", metadata.len()),
            Self::Lease(Lease { ttl_ms, requests, metadata: _ }) => {
                write!(f, " ttl={ttl_ms}ms requests={requests}")
            }
            Self::Resume(resume) => {
                let Resume { last_received_server_position: received, .. } = **resume;
                let available = resume.first_available_client_position;
                write!(f, " received={received} available={available}")
            }
            Self::ResumeOk { last_received_client_position } => {
                write!(f, " received={last_received_client_position}")
            }
            Self::Ext(Ext { stream, extended_type, .. }) => {
                write!(f, " stream={} type=0x{extended_type:08x}", number(*stream))
            }
            Self::Unknown { frame_type, .. } => write!(f, " frame 0x{frame_type:02x}"),
            Self::Misplaced { stream_id, .. } => {
                write!(f, " stream={stream_id}, where it has no meaning")
            }
        }
    }
}

struct Annotated<'a> {
    frame: &'a Frame,
    note: &'a str,
}

impl fmt::Display for Annotated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.frame.write(self.note, f)
    }
}

/// Text of the peer's.
fn text(bytes: &[u8]) -> impl fmt::Display {
    Printable(String::from_utf8_lossy(bytes))
}

/// The text of an ERROR, as far as it is shown.
fn error_text(message: &[u8]) -> impl fmt::Display {
    text(&message[..message.len().min(MAX_ERROR_TEXT)])
}

/// A stream's number, 0 for the connection.
fn number(stream: Option<StreamId>) -> u32 {
    stream.map_or(0, StreamId::get)
}

fn write_if(is_set: bool, text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if is_set { f.write_str(text) } else { Ok(()) }
}

fn write_flags(flags: &[(bool, &str)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let set: String = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag).collect();
    if set.is_empty() { Ok(()) } else { write!(f, " [{set}]") }
}

/// How long the parts of a payload are.
struct Size<'a>(&'a Payload);

impl fmt::Display for Size<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} B", self.0.data.len())?;
        match &self.0.metadata {
            Some(metadata) => write!(f, " + {} B metadata", metadata.len()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(frame: &[u8]) -> String {
        Frame::decode(frame.to_vec().into()).unwrap().to_string()
    }

    #[test]
    fn a_frame_is_a_line() {
        for (frame, expected) in [
            (&b"\0\0\0\x01\x1c\xc0\0\0\0\x05ab"[..], "REQUEST_CHANNEL stream=1 [FC] n=5 2 B"),
            (b"\0\0\0\x01\x28\x60abc", "PAYLOAD stream=1 [NC] 3 B"),
            (b"\0\0\0\x01\x29\x20\0\0\x01ab", "PAYLOAD stream=1 [N] 1 B + 1 B metadata"),
            (b"\0\0\0\x01\x20\0\0\0\0\x07", "REQUEST_N stream=1 n=7"),
            (b"\0\0\0\x01\x24\0", "CANCEL stream=1"),
            (b"\0\0\0\x01\x2c\0\0\0\x02\x02n\x1bo", "ERROR stream=1 REJECTED: n\\u{1b}o"),
            (b"\0\0\0\0\x2c\0\0\0\x01\x01", "ERROR stream=0 CONNECTION_ERROR: "),
            (b"\0\0\0\0\x2c\0\0\0\x01\x02bye", "CONNECTION_CLOSE: bye"),
            (b"\0\0\0\x01\x2c\0\0\0\x01\x02bye", "ERROR stream=1 CONNECTION_CLOSE: bye"),
            (b"\0\0\0\0\x0c\x80\0\0\0\0\0\0\0\0", "KEEPALIVE [R] position=0 0 B"),
            (b"\0\0\0\0\x08\0\0\0\0\x09\0\0\0\x08", "LEASE ttl=9ms requests=8"),
            (b"\0\0\0\0\x38\0\0\0\0\0\0\0\0\x07", "RESUME_OK received=7"),
            (b"\0\0\0\0\xfc\0\0\0\0\x0a", "EXT stream=0 type=0x0000000a"),
            (b"\0\0\0\x01\x7c\0", "unknown frame 0x1f"),
            (b"\0\0\0\0\x24\0", "CANCEL stream=0, where it has no meaning"),
        ] {
            assert_eq!(line(frame), expected);
        }
    }

    /// AUTH-12
    #[test]
    fn what_may_be_secret_is_not_shown() {
        let metadata = b"\xfc\0\0\x0c\x80\0\x03annsecret"[..].to_vec();
        let setup: &[u8] = b"\0\0\0\0\x05\0\0\x01\0\0\0\0\x4e\x20\0\x01\x5f\x90\x01a\x01b\0\0\x10";
        let resume: &[u8] = b"\0\0\0\0\x34\0\0\x01\0\0\0\x10";
        for (head, end, expected) in [
            (
                setup,
                "",
                "SETUP version=1.0 keepalive=20000ms/90000ms metadata=a data=b 0 B + 16 B metadata",
            ),
            (b"\0\0\0\x01\x11\0\0\0\x10", "", "REQUEST_RESPONSE stream=1 0 B + 16 B metadata"),
            (b"\0\0\0\0\x31\0", "", "METADATA_PUSH 16 B"),
            (resume, "\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02", "RESUME received=1 available=2"),
        ] {
            assert_eq!(line(&[head, &metadata, end.as_bytes()].concat()), expected);
        }
    }
}
