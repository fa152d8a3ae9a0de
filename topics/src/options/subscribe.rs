use std::time::UNIX_EPOCH;

use serde_json::value::RawValue;

use super::{
    MAX_JSON_BYTES,
    read::{Members, Value, read},
};
use crate::{
    entry::Meta,
    position::{Epoch, Offset, Position},
    refusal::Refusal,
};

/// Messages back from the head at most.
const MAX_LAST: u64 = 10_000;
/// Bytes of the longest token.
const MAX_TOKEN_BYTES: usize = 8 << 10;

/// The place in the log at which a reader begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Behind the newest.
    #[default]
    New,
    /// At the oldest that is kept.
    Oldest,
    /// So many before the head.
    Last(u64),
    /// Behind this position.
    After(Position),
    /// At the first that is not older: milliseconds since 1970.
    Since(u64),
}

/// The form that a start has in an object.
#[derive(Default)]
struct StartForm {
    last: Option<u64>,
    epoch: Option<Epoch>,
    after: Option<Offset>,
    since: Option<u64>,
}

impl Members for StartForm {
    const KNOWN: &'static [&'static [&'static str]] = &[&["last", "epoch", "after", "since"]];

    fn set(&mut self, value: Value<'_>) -> Result<(), Refusal> {
        match value.name {
            "last" => self.last = Some(value.number(0..=MAX_LAST)?),
            "epoch" => self.epoch = Some(epoch(value)?),
            "after" => self.after = Some(value.offset()?),
            // The last of the known ones.
            _ => self.since = Some(since(value)?),
        }
        Ok(())
    }
}

/// Reads an epoch.
pub(super) fn epoch(value: Value<'_>) -> Result<Epoch, Refusal> {
    let epoch = value.as_text().and_then(|text| text.parse().ok());
    epoch.ok_or_else(|| value.wrong("16 digits of 0-9 a-f"))
}

/// Reads a moment: milliseconds since 1970.
fn since(value: Value<'_>) -> Result<u64, Refusal> {
    let moment = value.as_text().and_then(|text| rfc_3339(&text));
    moment
        .ok_or_else(|| value.wrong("a time as 2026-11-30T04:05:06Z or 2026-11-30T05:05:06.5+01:00"))
}

/// Milliseconds since 1970, of a time as RFC 3339 writes it.
fn rfc_3339(text: &str) -> Option<u64> {
    let read = |text: &str| {
        let since = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
        u64::try_from(since.as_millis()).ok()
    };
    // The crate knows UTC alone.
    let at = text.len().checked_sub("+00:00".len()).filter(|at| text.is_char_boundary(*at))?;
    let (local, zone) = text.split_at(at);
    let is_east = match zone.as_bytes()[0] {
        b'+' => true,
        b'-' => false,
        _ => return read(text),
    };
    let (hours, minutes) = zone[1..].split_once(':')?;
    let two_digits = |text: &str, most: u64| {
        let is_number = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u64>().ok().filter(|number| is_number && *number <= most)
    };
    let ahead = (two_digits(hours, 23)? * 60 + two_digits(minutes, 59)?) * 60_000;
    let local = read(&format!("{local}Z"))?;
    if is_east { local.checked_sub(ahead) } else { local.checked_add(ahead) }
}

/// Reads a start.
pub(super) fn start(value: Value<'_>) -> Result<Start, Refusal> {
    let expected = r#""new", "start", {"last":N}, {"epoch":E,"after":O} or {"since":"RFC 3339"}"#;
    match value.as_text().as_deref() {
        Some("new") => return Ok(Start::New),
        Some("start") => return Ok(Start::Oldest),
        None if value.json.starts_with('{') => {}
        _ => return Err(value.wrong(expected)),
    }
    match read(value.json.as_bytes())? {
        StartForm { last: Some(last), epoch: None, after: None, since: None } => {
            Ok(Start::Last(last))
        }
        StartForm { last: None, epoch: Some(epoch), after: Some(after), since: None } => {
            Ok(Start::After(Position { epoch, after }))
        }
        StartForm { last: None, epoch: None, after: None, since: Some(since) } => {
            Ok(Start::Since(since))
        }
        _ => Err(value.wrong(expected)),
    }
}

/// The parts of an item's metadata that are asked for.
pub(super) fn meta(value: Value<'_>) -> Result<Meta, Refusal> {
    value.one_of(&[("full", Meta::Full), ("offset", Meta::Offset), ("none", Meta::None)])
}

/// The way in which a reader goes on that retention, or `max_lag`, has overrun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lag {
    /// It is told what it missed, and goes on with the oldest that is kept.
    #[default]
    Gap,
    /// It is told what it missed, and goes on with the newest.
    Latest,
    /// It ends.
    Close,
    /// It is never more than one behind: it gets the newest, and how many were skipped.
    Conflate,
}

/// Options of a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// The place in the log at which it begins.
    pub from: Start,
    /// The way in which it goes on after it was overrun.
    pub lag: Lag,
    /// Messages behind the head at which `lag` applies, besides retention.
    pub max_lag: Option<u64>,
    /// Its first item is its position (`start`).
    pub tells_start: bool,
    /// An item says when it first reached the head (`live`).
    pub tells_live: bool,
    /// The parts of its items' metadata.
    pub meta: Meta,
    /// It gets what its own connection publishes (`echo`).
    pub has_echo: bool,
    /// A token for this topic alone.
    pub token: Option<Box<str>>,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self {
            from: Start::New,
            lag: Lag::Gap,
            max_lag: None,
            tells_start: false,
            tells_live: false,
            meta: Meta::Full,
            has_echo: true,
            token: None,
        }
    }
}

impl SubscribeOptions {
    /// Reads them from JSON.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], and why.
    pub fn parse(json: &[u8]) -> Result<Self, Refusal> {
        read(json)
    }
}

const SUBSCRIBE: &[&str] = &["from", "lag", "max_lag", "start", "live", "meta", "echo", "token"];

impl Members for SubscribeOptions {
    const KNOWN: &'static [&'static [&'static str]] = &[SUBSCRIBE];

    fn set(&mut self, value: Value<'_>) -> Result<(), Refusal> {
        match value.name {
            "from" => self.from = start(value)?,
            "lag" => {
                self.lag = value.one_of(&[
                    ("gap", Lag::Gap),
                    ("latest", Lag::Latest),
                    ("close", Lag::Close),
                    ("conflate", Lag::Conflate),
                ])?;
            }
            "max_lag" => self.max_lag = Some(value.number(1..=Offset::MAX.0)?),
            "start" => self.tells_start = value.flag()?,
            "live" => self.tells_live = value.flag()?,
            "meta" => self.meta = meta(value)?,
            "echo" => self.has_echo = value.flag()?,
            // The last of the known ones.
            _ => self.token = Some(value.text(MAX_TOKEN_BYTES)?),
        }
        Ok(())
    }
}

/// The items that a join receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Receive {
    /// Others' messages.
    #[default]
    Messages,
    /// An answer to each of its own publishes.
    Acks,
    /// Messages of all; its own stand for their answers.
    Both,
    /// Nothing.
    None,
}

impl Receive {
    /// Whether messages are received.
    pub fn has_messages(self) -> bool {
        matches!(self, Self::Messages | Self::Both)
    }

    /// Whether each publish is answered.
    pub fn has_acks(self) -> bool {
        matches!(self, Self::Acks | Self::Both)
    }
}

/// Options of a join.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// Those of the subscription that it is, too.
    pub subscribe: SubscribeOptions,
    /// The name that it sends and appears under.
    pub name: Option<Box<str>>,
    /// JSON that presence shows.
    pub info: Option<Box<RawValue>>,
    /// The items that it receives.
    pub receive: Receive,
    /// It appears in presence (`presence`).
    pub is_present: bool,
}

impl Default for JoinOptions {
    fn default() -> Self {
        Self {
            subscribe: SubscribeOptions::default(),
            name: None,
            info: None,
            receive: Receive::Messages,
            is_present: true,
        }
    }
}

impl JoinOptions {
    /// Reads them from JSON.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], and why.
    pub fn parse(json: &[u8]) -> Result<Self, Refusal> {
        read(json)
    }
}

impl Members for JoinOptions {
    const KNOWN: &'static [&'static [&'static str]] =
        &[&["name", "info", "receive", "presence"], SUBSCRIBE];

    fn set(&mut self, value: Value<'_>) -> Result<(), Refusal> {
        match value.name {
            "name" => self.name = Some(value.member_name()?),
            "info" => self.info = Some(value.verbatim(MAX_JSON_BYTES)?),
            "receive" => {
                self.receive = value.one_of(&[
                    ("messages", Receive::Messages),
                    ("acks", Receive::Acks),
                    ("both", Receive::Both),
                    ("none", Receive::None),
                ])?;
            }
            "presence" => self.is_present = value.flag()?,
            _ => self.subscribe.set(value)?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_zone() {
        let noon = 1_764_504_000_000;
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2025-11-30T12:00:00Z", Some(noon)),
            ("2025-11-30T12:00:00.125Z", Some(noon + 125)),
            ("2025-11-30T12:00:00+00:00", Some(noon)),
            ("2025-11-30T13:00:00+01:00", Some(noon)),
            ("2025-11-30T17:30:00.5+05:30", Some(noon + 500)),
            ("2025-11-30T04:00:00-08:00", Some(noon)),
            ("2025-11-30T04:00:00-00:00", Some(noon - 8 * 3_600_000)),
            ("1970-01-01T00:00:00+01:00", None),
            ("2025-11-30T12:00:00", None),
            ("2025-11-30T12:00:00+1:00", None),
            ("2025-11-30T12:00:00+24:00", None),
            ("2025-11-30T12:00:00+01:60", None),
            ("2025-11-30T12:00:00++1:00", None),
            ("2025-11-30", None),
            ("2025-11-31T12:00:00Z", None),
            ("yesterday", None),
            ("", None),
            ("ä", None),
            ("2025-11-30T12:00:00Ä:00", None),
        ] {
            assert_eq!(rfc_3339(text), expected, "{text}");
        }
    }
}
