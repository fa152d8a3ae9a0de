//! The output: data on stdout, everything else on stderr.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use rsock::{
    Payload, Printable,
    metadata::{CompositeMetadata, Entry, Mime, WellKnownMime},
};
use serde::de::IgnoredAny;

use crate::{
    args::{Format, OutputArgs, Show},
    entries,
    exit::Failure,
    stdout::Stdout,
};

/// Writes a line to stderr, in one piece, without what would command a terminal: much of it is the
/// peer's. Where nobody reads it there is nobody to tell that either.
pub(crate) fn say(line: impl fmt::Display) {
    let line = format!("{}\n", Printable(line));
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Bytes that are shown at a time where nobody watches, give or take an item.
const BLOCK_BYTES: usize = 32 << 10;

/// The place replies go to.
pub(crate) struct Output {
    /// None where no data is to be shown.
    stdout: Option<Stdout>,
    /// Lines that nobody waits for yet.
    block: Vec<u8>,
    /// Somebody sees each line as it comes.
    is_watched: bool,
    format: Format,
    show: Option<Show>,
    metadata_mime: String,
}

impl Output {
    /// # Errors
    /// [`Failure::Output`] if data is to be shown and there is no stdout.
    pub(crate) fn new(args: &OutputArgs, metadata_mime: String) -> Result<Self, Failure> {
        let stdout = (args.out != Format::None).then(Stdout::open).transpose()?;
        Ok(Self {
            stdout,
            block: Vec::new(),
            is_watched: io::stdout().is_terminal(),
            format: args.out,
            show: args.show,
            metadata_mime,
        })
    }

    /// Shows one reply: on a terminal at once, and elsewhere in blocks. Whoever has nothing to show
    /// next says so with [`pause`](Self::pause).
    pub(crate) async fn write(&mut self, payload: &Payload) -> Result<(), Failure> {
        if let (Some(Show::Metadata), Some(metadata)) = (self.show, &payload.metadata) {
            // What came before it is seen before it.
            self.pause().await?;
            show_metadata(metadata, &self.metadata_mime);
        }
        self.add_line(&payload.data);
        if self.is_watched || self.block.len() >= BLOCK_BYTES { self.pause().await } else { Ok(()) }
    }

    /// Has written what was shown so far.
    pub(crate) async fn pause(&mut self) -> Result<(), Failure> {
        match &self.stdout {
            Some(stdout) if !self.block.is_empty() => {
                stdout.write(&self.block).await?;
                self.block.clear();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Waits until all that was shown is written.
    pub(crate) async fn flush(&mut self) -> Result<(), Failure> {
        self.pause().await?;
        match &self.stdout {
            Some(stdout) => stdout.flush().await,
            None => Ok(()),
        }
    }

    /// Waits until nobody reads any more what is shown.
    pub(crate) async fn failed(&self) -> Failure {
        match &self.stdout {
            Some(stdout) => stdout.failed().await,
            None => std::future::pending().await,
        }
    }

    fn add_line(&mut self, data: &[u8]) {
        match self.format {
            Format::None => return,
            Format::Text | Format::Raw => self.block.extend_from_slice(data),
            Format::Json => self.block.extend(json_line(data)),
            Format::Hex => self.block.extend(hex(data).into_bytes()),
            Format::Base64 => self.block.extend(BASE64_STANDARD.encode(data).into_bytes()),
        }
        if self.format != Format::Raw {
            self.block.push(b'\n');
        }
    }
}

fn show_metadata(metadata: &Bytes, connection_mime: &str) {
    let composite = WellKnownMime::CompositeMetadata.as_str();
    if !connection_mime.eq_ignore_ascii_case(composite) {
        let mime = Mime::from_setup(Bytes::copy_from_slice(connection_mime.as_bytes()));
        let content = entries::content(&Entry { mime, content: metadata.clone() });
        return say(format_args!("{connection_mime}: {content}"));
    }
    for entry in CompositeMetadata::new(metadata.clone()) {
        match entry {
            Ok(entry) => say(format_args!("{}: {}", entry.mime, entries::content(&entry))),
            Err(error) => say(format_args!("not composite metadata: {error}")),
        }
    }
}

/// Bytes as they read best.
pub(crate) fn text_or_hex(bytes: &[u8]) -> String {
    match str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text.to_owned(),
        _ => format!("0x{}", hex(bytes)),
    }
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;

    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Text can always be written to.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// JSON on one line, its numbers and its order untouched.
fn json_line(data: &[u8]) -> Vec<u8> {
    if serde_json::from_slice::<IgnoredAny>(data).is_ok() {
        return without_space(data);
    }
    let value = match str::from_utf8(data) {
        Ok(text) => serde_json::Value::from(text),
        Err(_) => serde_json::json!({ "base64": BASE64_STANDARD.encode(data) }),
    };
    value.to_string().into_bytes()
}

/// Valid JSON without the space between its tokens.
fn without_space(json: &[u8]) -> Vec<u8> {
    let (mut in_string, mut escaped) = (false, false);
    let kept = json.iter().copied().filter(|&byte| {
        let keep = in_string || !byte.is_ascii_whitespace();
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            _ => {}
        }
        keep
    });
    kept.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_line_and_otherwise_untouched() {
        for (data, line) in [
            ("{ \"b\" : 1.10,\n \"a\": \" \\\" x \" }", "{\"b\":1.10,\"a\":\" \\\" x \"}"),
            ("[1, 2]\n", "[1,2]"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("a \"word\"", "\"a \\\"word\\\"\""),
            ("", "\"\""),
        ] {
            assert_eq!(String::from_utf8(json_line(data.as_bytes())).unwrap(), line);
        }
        assert_eq!(json_line(b"\xff"), b"{\"base64\":\"/w==\"}");
    }

    #[test]
    fn bytes_are_shown_as_text_where_they_are() {
        assert_eq!(text_or_hex("ü".as_bytes()), "ü");
        assert_eq!(text_or_hex(b"\x00\x01"), "0x0001");
    }
}
