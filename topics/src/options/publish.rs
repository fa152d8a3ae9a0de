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
    const KNOWN: &'static [&'static [&'static str]] =
        &[&["id", "from", "key", "delete", "headers", "ephemeral", "expect", "close"]];

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
            // The last of the known ones.
            _ => self.is_last = value.flag()?,
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Refusal> {
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
