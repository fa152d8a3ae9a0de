use serde_json::value::RawValue;

use super::{
    MAX_JSON_BYTES,
    read::{Members, Value, read},
};
use crate::{position::Offset, refusal::Refusal};

/// Bytes of the longest idempotency key.
const MAX_ID_BYTES: usize = 64;
/// Bytes of the longest key.
const MAX_KEY_BYTES: usize = 128;

/// The words of a member about itself from now on: in a payload of its join, which is no message then.
#[derive(Debug)]
pub enum Info {
    /// JSON that is shown in presence.
    Says(Box<RawValue>),
    /// It says nothing any more.
    Nothing,
}

impl Info {
    /// The JSON, if there is any.
    pub fn json(&self) -> Option<&RawValue> {
        match self {
            Self::Says(json) => Some(json),
            Self::Nothing => None,
        }
    }
}

/// Options of a publish.
#[derive(Debug, Default)]
pub struct PublishOptions {
    /// The idempotency key.
    pub id: Option<Box<str>>,
    /// The name of its sender.
    pub from: Option<Box<str>>,
    /// The key that it replaces, in a topic of the newest by key; elsewhere carried along.
    pub key: Option<Box<str>>,
    /// It deletes its key (`delete`).
    pub is_tombstone: bool,
    /// An object that goes with it, verbatim.
    pub headers: Option<Box<RawValue>>,
    /// It is an event of the moment, not kept.
    pub is_ephemeral: bool,
    /// The last offset of the topic, or of the key, without which it is not appended.
    pub expect: Option<Offset>,
    /// It is no message: its sender says this of itself from now on.
    pub info: Option<Info>,
    /// It is the topic's last (`close`).
    pub is_last: bool,
}

impl PublishOptions {
    /// Reads them from JSON.
    ///
    /// # Errors
    /// [`Refusal::Invalid`], and why.
    pub fn parse(json: &[u8]) -> Result<Self, Refusal> {
        read(json)
    }
}

impl Members for PublishOptions {
    const NULLS: &'static [&'static str] = &["info"];
    const KNOWN: &'static [&'static [&'static str]] =
        &[&["id", "from", "key", "delete", "headers", "ephemeral", "expect", "info", "close"]];

    fn set(&mut self, value: Value<'_>) -> Result<(), Refusal> {
        match value.name {
            "id" => self.id = Some(value.text(MAX_ID_BYTES)?),
            "from" => self.from = Some(value.member_name()?),
            "key" => self.key = Some(value.text(MAX_KEY_BYTES)?),
            "delete" => self.is_tombstone = value.flag()?,
            "headers" if value.json.starts_with('{') => {
                self.headers = Some(value.verbatim(MAX_JSON_BYTES)?);
            }
            "headers" => return Err(value.wrong("an object")),
            "ephemeral" => self.is_ephemeral = value.flag()?,
            "expect" => self.expect = Some(value.offset()?),
            "info" if value.json == "null" => self.info = Some(Info::Nothing),
            "info" => self.info = Some(Info::Says(value.verbatim(MAX_JSON_BYTES)?)),
            // The last of the known ones.
            _ => self.is_last = value.flag()?,
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Refusal> {
        let is_message = self.from.is_some()
            || self.key.is_some()
            || self.headers.is_some()
            || self.expect.is_some()
            || self.is_tombstone
            || self.is_ephemeral
            || self.is_last;
        if self.info.is_some() && is_message {
            return Err(Refusal::invalid(
                "not valid options: \"info\" is no message, and stands alone or beside an \"id\"",
            ));
        }
        if self.is_tombstone && self.key.is_none() {
            return Err(Refusal::invalid(
                "not valid options: \"delete\" goes with the \"key\" to delete",
            ));
        }
        for (name, is_used) in [
            ("delete", self.is_tombstone),
            ("expect", self.expect.is_some()),
            ("close", self.is_last),
        ] {
            if self.is_ephemeral && is_used {
                return Err(Refusal::invalid(format_args!(
                    "not valid options: {name:?} is about the log, and \"ephemeral\" leaves none"
                )));
            }
        }
        Ok(())
    }
}
