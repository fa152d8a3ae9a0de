//! `-vvv`: the bytes of frames, without what is secret in them.

use std::{fmt::Write, ops::Range};

use bytes::Bytes;
use rsock::{
    frame::Frame,
    metadata::{CompositeMetadata, WellKnownMime},
};

/// Bytes of a frame that are shown at most.
const MAX_SHOWN: usize = 512;
/// Bytes of a line.
const PER_LINE: usize = 16;

/// Lines with the bytes of a frame, as `hexdump -C` writes them; those that are secret as dots.
pub(crate) fn lines(bytes: &[u8], secret: &[Range<usize>]) -> Vec<String> {
    let is_secret = |at: usize| secret.iter().any(|range| range.contains(&at));
    let shown = &bytes[..bytes.len().min(MAX_SHOWN)];
    let mut lines: Vec<_> = shown
        .chunks(PER_LINE)
        .enumerate()
        .map(|(number, chunk)| {
            let start = number * PER_LINE;
            let (mut hex, mut text) = (String::new(), String::new());
            for (index, &byte) in chunk.iter().enumerate() {
                let gap = if index == PER_LINE / 2 { " " } else { "" };
                // A String can always be written to.
                let _ = match is_secret(start + index) {
                    true => write!(hex, "{gap}.. "),
                    false => write!(hex, "{gap}{byte:02x} "),
                };
                let is_shown =
                    (byte.is_ascii_graphic() || byte == b' ') && !is_secret(start + index);
                text.push(if is_shown { char::from(byte) } else { '.' });
            }
            format!("    {start:04x}  {hex:<49} |{text}|")
        })
        .collect();
    if bytes.len() > MAX_SHOWN {
        lines.push(format!("    … {} bytes in all", bytes.len()));
    }
    lines
}

/// The places in a frame's bytes of what nobody else is to know: credentials, and the token by which
/// a session is taken up (AUTH-12). In the midst of a payload's fragments all metadata is.
pub(crate) fn secrets(
    bytes: &Bytes,
    frame: &Frame,
    connection_mime: &str,
    is_fragment: bool,
) -> Vec<Range<usize>> {
    let mut secrets = Vec::new();
    let (metadata, token) = match frame {
        Frame::Setup(setup) => (setup.payload.metadata.as_ref(), setup.resume_token.as_ref()),
        Frame::Request(request) => (request.payload.metadata.as_ref(), None),
        Frame::Payload(payload) => (payload.payload.metadata.as_ref(), None),
        Frame::MetadataPush { metadata } => (Some(metadata), None),
        Frame::Resume(resume) => (None, Some(&resume.token)),
        _ => (None, None),
    };
    if let Some(token) = token {
        secrets.push(place(bytes, token));
    }
    let Some(metadata) = metadata else { return secrets };
    if is_fragment || is_secret(connection_mime) {
        secrets.push(place(bytes, metadata));
    } else if connection_mime.eq_ignore_ascii_case(WellKnownMime::CompositeMetadata.as_str()) {
        let mut rest = place(bytes, metadata);
        for entry in CompositeMetadata::new(metadata.clone()) {
            let Ok(entry) = entry else {
                // What cannot be read may be anything.
                secrets.push(rest);
                break;
            };
            let content = place(bytes, &entry.content);
            rest.start = content.end;
            if entry.mime.as_str().is_some_and(is_secret) {
                secrets.push(content);
            }
        }
    }
    secrets
}

/// Also that of the extension's predecessor.
fn is_secret(mime: &str) -> bool {
    mime.to_ascii_lowercase().contains("authentication")
}

/// The place of a part that was cut out of these bytes; all of them for one that was not.
fn place(whole: &Bytes, part: &Bytes) -> Range<usize> {
    let start = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
    match start.checked_add(part.len()) {
        Some(end) if end <= whole.len() => start..end,
        _ => 0..whole.len(),
    }
}

#[cfg(test)]
mod tests {
    use rsock::metadata::mime::{APPLICATION_JSON, AUTHENTICATION, COMPOSITE_METADATA};

    use super::*;

    fn shown(frame: &[u8], mime: &str, is_fragment: bool) -> String {
        let bytes = Bytes::copy_from_slice(frame);
        let frame = Frame::decode(bytes.clone()).unwrap();
        lines(&bytes, &secrets(&bytes, &frame, mime, is_fragment)).join("\n")
    }

    #[test]
    fn bytes_are_shown_in_rows() {
        let frame = [b"\0\0\0\x01\x28\x60".as_slice(), b"0123456789a\xffb"].concat();
        assert_eq!(
            shown(&frame, COMPOSITE_METADATA, false),
            "    0000  00 00 00 01 28 60 30 31  32 33 34 35 36 37 38 39  |....(`0123456789|\n    \
             0010  61 ff 62                                          |a.b|"
        );
        let long = shown(&[b"\0\0\0\x01\x28\x60", [b'x'; 1_000].as_slice()].concat(), "a/b", false);
        assert_eq!(long.lines().count(), 33);
        assert!(long.ends_with("… 1006 bytes in all"), "{long}");
    }

    /// AUTH-12
    #[test]
    fn secrets_are_not() {
        let request = |metadata: &[u8]| {
            let length = [0, 0, metadata.len() as u8];
            [b"\0\0\0\x01\x11\0", &length[..], metadata, b"data"].concat()
        };
        let composite = request(b"\xfc\0\0\x0c\x80\0\x03annsecret\xfe\0\0\x05\x04echo");
        let cut = request(b"\xfe\0\0\x05\x04echo\xfc\0\0\x7fsecret");
        let push = b"\0\0\0\0\x31\0\xfc\0\0\x07\x81secret";
        let resume = [b"\0\0\0\0\x34\0\0\x01\0\0\0\x06secret".as_slice(), &[0; 16]].concat();
        let setup = b"\0\0\0\0\x04\x80\0\x01\0\0\0\0\x4e\x20\0\x01\x5f\x90\0\x06secret\x01a\x01b";
        for (frame, mime, is_fragment, seen) in [
            (&composite[..], COMPOSITE_METADATA, false, "echodata"),
            (&composite, COMPOSITE_METADATA, true, "data"),
            (&composite, AUTHENTICATION, false, "data"),
            (&cut, COMPOSITE_METADATA, false, ".echo"),
            (push, COMPOSITE_METADATA, false, "1"),
            (&resume, COMPOSITE_METADATA, false, "4"),
            (setup, COMPOSITE_METADATA, false, "a.b"),
        ] {
            let dump = shown(frame, mime, is_fragment);
            let text: String = dump.lines().filter_map(|line| line.split('|').nth(1)).collect();
            assert!(!text.contains('s') && !text.contains("cret") && text.contains(seen), "{dump}");
            assert!(!dump.contains("63 72"), "{dump}");
        }
        // What is not hidden is seen, so that this test shows something.
        assert!(shown(&composite, APPLICATION_JSON, false).contains("secret"));
    }
}
