//! The output: data on stdout, everything else on stderr.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use rsock::{
    Payload, Printable,
    metadata::{CompositeMetadata, Entry, Mime, WellKnownMime},
};

use crate::{
    args::{Format, OutputArgs, Show, When},
    entries,
    exit::Failure,
    json,
    stdout::Stdout,
};

/// The state of stderr, between lines.
struct Stderr {
    /// Nothing is to be said but what was asked for and why it failed.
    is_quiet: bool,
    /// The last line is one of progress, and in the way of another.
    has_progress: bool,
}

static STDERR: Mutex<Stderr> = Mutex::new(Stderr { is_quiet: false, has_progress: false });

/// From now on only errors are said, and what was asked for.
pub(crate) fn be_quiet() {
    stderr().is_quiet = true;
}

/// Nothing panics under the lock.
fn stderr() -> MutexGuard<'static, Stderr> {
    STDERR.lock().unwrap_or_else(PoisonError::into_inner)
}

/// To the beginning of the line, and all of it gone.
pub(crate) const CLEARED: &str = "\r\x1b[K";

/// Says something of use, which `--quiet` does without.
pub(crate) fn say(line: impl fmt::Display) {
    if !stderr().is_quiet {
        answer(line);
    }
}

/// Writes a line to stderr, in one piece, without what would command a terminal: much of it is the
/// peer's. Where nobody reads it there is nobody to tell that either.
pub(crate) fn answer(line: impl fmt::Display) {
    let mut stderr = stderr();
    let cleared = if mem::take(&mut stderr.has_progress) { CLEARED } else { "" };
    let line = format!("{cleared}{}\n", Printable(line));
    let _ = io::stderr().write_all(line.as_bytes());
}

/// Writes a line that the next one takes the place of, as far as it fits.
pub(crate) fn show_progress(line: impl fmt::Display) {
    let columns = terminal_size::terminal_size_of(io::stderr()).map_or(80, |(width, _)| width.0);
    let line: String = line.to_string().chars().take(columns.saturating_sub(1).into()).collect();
    let mut stderr = stderr();
    stderr.has_progress = true;
    let _ = io::stderr().write_all(format!("{CLEARED}{line}").as_bytes());
}

/// Leaves no line of progress behind.
pub(crate) fn end_progress() {
    if mem::take(&mut stderr().has_progress) {
        let _ = io::stderr().write_all(CLEARED.as_bytes());
    }
}

/// Whether replies are shown on a terminal.
pub(crate) fn is_shown_on_a_terminal(args: &OutputArgs) -> bool {
    args.out != Format::None && io::stdout().is_terminal()
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
    /// Columns beyond which JSON is indented, where it is.
    width: Option<usize>,
    format: Format,
    show: Option<Show>,
    metadata_mime: String,
}

impl Output {
    /// # Errors
    /// [`Failure::Output`] if data is to be shown and there is no stdout.
    pub(crate) fn new(args: &OutputArgs, metadata_mime: String) -> Result<Self, Failure> {
        let stdout = (args.out != Format::None).then(Stdout::open).transpose()?;
        let is_watched = io::stdout().is_terminal();
        let is_pretty = match args.pretty {
            When::Auto => is_watched,
            When::Always => true,
            When::Never => false,
        };
        Ok(Self {
            stdout,
            block: Vec::new(),
            is_watched,
            width: is_pretty.then(width),
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

    fn add_text(&mut self, text: &[u8]) {
        match self.width.and_then(|width| json::indented(text, width)) {
            Some(indented) => self.block.extend_from_slice(indented.as_bytes()),
            None => self.block.extend_from_slice(text),
        }
    }

    fn add_line(&mut self, data: &[u8]) {
        match self.format {
            Format::None => return,
            Format::Raw => self.block.extend_from_slice(data),
            Format::Text => self.add_text(data),
            Format::Json => self.add_text(&json::line(data)),
            Format::Hex => self.block.extend(hex(data).into_bytes()),
            Format::Base64 => self.block.extend(BASE64_STANDARD.encode(data).into_bytes()),
        }
        if self.format != Format::Raw {
            self.block.push(b'\n');
        }
    }
}

/// The columns that JSON is to fit: those of the terminal, where there is one.
fn width() -> usize {
    terminal_size::terminal_size_of(io::stdout()).map_or(80, |(width, _)| width.0.into())
}

fn show_metadata(metadata: &Bytes, connection_mime: &str) {
    let composite = WellKnownMime::CompositeMetadata.as_str();
    if !connection_mime.eq_ignore_ascii_case(composite) {
        let mime = Mime::from_setup(Bytes::copy_from_slice(connection_mime.as_bytes()));
        let content = entries::content(&Entry { mime, content: metadata.clone() });
        return answer(format_args!("{connection_mime}: {content}"));
    }
    for entry in CompositeMetadata::new(metadata.clone()) {
        match entry {
            Ok(entry) => answer(format_args!("{}: {}", entry.mime, entries::content(&entry))),
            Err(error) => answer(format_args!("not composite metadata: {error}")),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_as_text_where_they_are() {
        assert_eq!(text_or_hex("ü".as_bytes()), "ü");
        assert_eq!(text_or_hex(b"\x00\x01"), "0x0001");
    }
}
